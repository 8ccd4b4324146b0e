"""What NVML says, by a made-up NVML whose counters move with a made-up clock."""

# ruff: noqa: N802, N815 - the made-up NVML has the names of the real one

import sys
from types import SimpleNamespace

import pytest
import torch

from bench.timing import gpu_watch
from bench.timing.gpu_watch import GpuWatch

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
IDLE, APPLICATION_CLOCKS, POWER_CAP, SLOWDOWN, BOOST, SOFT_HEAT, HEAT, BRAKE = (2**bit for bit in range(8))


class NvmlError(Exception):
    pass


class Nvml:
    """Counts energy at a power, and shows it every `update` seconds only."""

    NVMLError = NvmlError
    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0
    NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL, NVML_PERF_POLICY_BOARD_LIMIT = 0, 1, 3
    nvmlClocksEventReasonSwPowerCap = POWER_CAP
    nvmlClocksEventReasonHwSlowdown = SLOWDOWN
    nvmlClocksEventReasonSwThermalSlowdown = SOFT_HEAT
    nvmlClocksEventReasonHwThermalSlowdown = HEAT
    nvmlClocksEventReasonHwPowerBrakeSlowdown = BRAKE

    def __init__(self):
        self.now, self.watts, self.update = 0.0, 500.0, 0.1
        self.reasons, self.violations = 0, {0: 0, 1: 0, 3: 0}
        self.missing = set()

    def _offer(self, name):
        if name in self.missing:
            raise NvmlError("Not Supported")

    def nvmlInit(self):
        self._offer("init")

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-of-this-test"
        return "handle"

    def nvmlSystemGetDriverVersion(self):
        return "999.1"

    def nvmlDeviceGetClockInfo(self, handle, clock):
        assert (handle, clock) == ("handle", self.NVML_CLOCK_SM)
        return 1980

    def nvmlDeviceGetTemperature(self, handle, sensor):
        self._offer("temperature")
        return 41

    def nvmlDeviceGetPowerUsage(self, handle):
        self._offer("power")
        return 123_400

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        self._offer("reasons")
        return self.reasons

    def nvmlDeviceGetViolationStatus(self, handle, policy):
        self._offer("violations")
        return SimpleNamespace(violationTime=self.violations[policy])

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self._offer("energy")
        return int(1e3 * self.watts * self.update * (self.now // self.update))


@pytest.fixture
def nvml(monkeypatch):
    made = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="of-this-test"))
    monkeypatch.setattr(gpu_watch, "synchronise", lambda device: None)
    monkeypatch.setattr(gpu_watch, "time", SimpleNamespace(perf_counter=lambda: made.now))
    return made


def working(nvml, seconds):
    def call():
        nvml.now += seconds

    return call


def test_a_cpu_says_nothing_and_asks_nobody(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    watch = GpuWatch(CPU)
    assert watch.state() == {}
    assert not watch.throttled()
    assert watch.energy(lambda: pytest.fail("nothing is called"), 8) is None


def test_the_state_is_in_the_units_of_the_record(nvml):
    expected = {"driver": "999.1", "gpu_clock_mhz": 1980, "gpu_temperature_c": 41, "gpu_power_w": 123.4}
    assert GpuWatch(CUDA).state() == expected
    nvml.missing = {"power", "temperature"}
    assert GpuWatch(CUDA).state() == {**expected, "gpu_temperature_c": None, "gpu_power_w": None}


@pytest.mark.parametrize("reason", [POWER_CAP, SLOWDOWN, SOFT_HEAT, HEAT, BRAKE, HEAT | IDLE])
def test_heat_and_power_are_throttling(nvml, reason):
    watch = GpuWatch(CUDA)
    assert not watch.throttled()
    nvml.reasons = reason
    assert watch.throttled()
    nvml.reasons = 0
    assert not watch.throttled()


@pytest.mark.parametrize("reason", [0, IDLE, APPLICATION_CLOCKS, BOOST, IDLE | APPLICATION_CLOCKS])
def test_idleness_and_chosen_clocks_are_none(nvml, reason):
    nvml.reasons = reason
    assert not GpuWatch(CUDA).throttled()


@pytest.mark.parametrize("policy", [0, 1, 3])
def test_throttling_that_is_over_is_seen_once(nvml, policy):
    nvml.violations[policy] = 7  # long before
    watch = GpuWatch(CUDA)
    assert not watch.throttled()
    nvml.violations[policy] += 1
    assert watch.throttled()
    assert not watch.throttled()


def test_what_a_gpu_does_not_count_is_no_throttling(nvml):
    nvml.missing = {"violations", "reasons"}
    watch = GpuWatch(CUDA)
    assert not watch.throttled()


@pytest.mark.parametrize("seconds", [20e-6, 3e-3, 0.05])
@pytest.mark.parametrize("update", [0.02, 0.1])
def test_energy_is_power_by_time_whatever_the_counters_steps(nvml, seconds, update):
    nvml.update, nvml.now = update, 0.0123
    joules = GpuWatch(CUDA).energy(working(nvml, seconds), rows=64)
    assert joules == pytest.approx(500 * seconds / 64 * 1000, rel=0.1)
    assert nvml.now < 1.5


def test_energy_without_its_counter_is_unknown(nvml):
    nvml.missing = {"energy"}
    assert GpuWatch(CUDA).energy(working(nvml, 1e-3), rows=8) is None


def test_energy_by_a_counter_that_stands_still_is_unknown(nvml):
    nvml.watts = 0.0
    assert GpuWatch(CUDA).energy(working(nvml, 1e-3), rows=8) is None
    assert nvml.now < 3


def test_a_gpu_of_which_nvml_knows_nothing_is_told_once_and_measured_all_the_same(nvml):
    nvml.missing = {"init"}
    with pytest.warns(UserWarning, match="neither clock nor power"):
        watch = GpuWatch(CUDA)
    assert watch.state() == {}
    assert not watch.throttled()
    assert watch.energy(working(nvml, 1e-3), rows=8) is None


def test_the_names_used_here_are_those_of_nvml():
    import pynvml

    for name in vars(Nvml):
        if name.startswith(("nvml", "NVML_")):
            assert hasattr(pynvml, name)
            assert callable(getattr(pynvml, name)) or getattr(pynvml, name) == getattr(Nvml, name)


@pytest.mark.gpu
def test_a_real_gpu_takes_energy_and_has_a_clock():
    device = torch.device("cuda")
    watch, x = GpuWatch(device), torch.randn(4096, 4096, device=device)
    assert watch.state()["gpu_clock_mhz"] > 100
    assert isinstance(watch.throttled(), bool)
    joules = watch.energy(lambda: torch.mm(x, x), rows=4096)
    if joules is None:
        pytest.skip("this GPU counts no energy")
    assert 1e-4 < joules < 1e2
