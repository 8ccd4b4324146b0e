"""What a GPU's own counters say while it is timed: throttling, clock, power and energy, through NVML."""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch

from bench.timing.clock import Call, synchronise

LOOK = 0.005
"""Seconds of calls between two reads of the energy counter, which NVML updates every 20 to 100 milliseconds."""
PATIENCE = 2.0
"""After so many seconds without an update the counter is considered stuck."""


class GpuWatch:
    """One GPU's counters; nothing for a CPU, or if NVML does not answer."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._handle: Any = None
        if device.type != "cuda":
            return
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(device).uuid
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except pynvml.NVMLError as error:
            warnings.warn(f"NVML gives neither clock nor power of this GPU: {error}", stacklevel=2)
            return
        self._violations = self._violation_times()

    def state(self) -> dict[str, Any]:
        """Return driver, SM clock (MHz), temperature (degrees Celsius) and power (W) of the board, as they are now.

        What this GPU does not tell is None.
        """
        if self._handle is None:
            return {}
        nvml = self._nvml
        milliwatts = self._offered(nvml.nvmlDeviceGetPowerUsage)
        return {
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "gpu_clock_mhz": self._offered(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            "gpu_temperature_c": self._offered(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
            "gpu_power_w": None if milliwatts is None else milliwatts / 1e3,
        }

    def throttled(self) -> bool:
        """Return whether limits of heat or power lower the clock now, or did since the last call of this method.

        The low clock of an idle GPU, or one set by an administrator, is not throttling.
        """
        if self._handle is None:
            return False
        nvml, before = self._nvml, self._violations
        self._violations = self._violation_times()
        reasons = self._offered(nvml.nvmlDeviceGetCurrentClocksEventReasons) or 0
        throttling = (
            nvml.nvmlClocksEventReasonSwPowerCap
            | nvml.nvmlClocksEventReasonHwSlowdown
            | nvml.nvmlClocksEventReasonSwThermalSlowdown
            | nvml.nvmlClocksEventReasonHwThermalSlowdown
            | nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
        )
        return bool(reasons & throttling) or self._violations != before

    def energy(self, call: Call, rows: int, seconds: float = 0.3) -> float | None:
        """Return the joules that the board takes for a thousand rows, if one `call` computes `rows`.

        The call is repeated for at least `seconds`, from one update of NVML's energy counter to another; the power of
        an idle board is included. None for a CPU, or if the counter is missing or stuck.
        """
        if self._handle is None or self._millijoules() is None:
            return None
        batch = self._calls_per_look(call)
        first = self._until_update(call, batch, 0.0)
        last = first and self._until_update(call, batch, seconds)
        if not first or not last:
            return None
        return (last[0] - first[0]) / 1e3 / (last[1] * rows) * 1e3

    def _calls_per_look(self, call: Call) -> int:
        synchronise(self._device)
        start, calls = time.perf_counter(), 0
        while time.perf_counter() - start < LOOK:
            call()
            synchronise(self._device)
            calls += 1
        return calls

    def _until_update(self, call: Call, batch: int, seconds: float) -> tuple[int, int] | None:
        """Return the energy (mJ) at the first update of the counter after `seconds`, and the calls made until then."""
        start, calls, before = time.perf_counter(), 0, self._millijoules()
        while time.perf_counter() - start < seconds + PATIENCE:
            for _ in range(batch):
                call()
            synchronise(self._device)
            calls += batch
            now = self._millijoules()
            if now is not None and now != before and time.perf_counter() - start >= seconds:
                return now, calls
            before = now
        return None

    def _millijoules(self) -> int | None:
        energy: int | None = self._offered(self._nvml.nvmlDeviceGetTotalEnergyConsumption)
        return energy

    def _violation_times(self) -> list[int | None]:
        """Return the nanoseconds so far in which each limit lowered the clock; None if they are not counted."""
        nvml = self._nvml
        policies = (nvml.NVML_PERF_POLICY_POWER, nvml.NVML_PERF_POLICY_THERMAL, nvml.NVML_PERF_POLICY_BOARD_LIMIT)
        statuses = [self._offered(nvml.nvmlDeviceGetViolationStatus, policy) for policy in policies]
        return [None if status is None else int(status.violationTime) for status in statuses]

    def _offered(self, ask: Any, *arguments: int) -> Any:
        """Return NVML's answer about this GPU, or None if it has none."""
        try:
            return ask(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None
