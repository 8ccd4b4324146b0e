"""`pytest bench`: the plugin of moegap, installed or not, with its options also under short names."""

from __future__ import annotations

import pytest

from bench import pytest_plugin

INSTALLED = "moegap"
"""The name of the plugin's entry point."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the plugin unless its entry point did, and add short names."""
    if not pluginmanager.is_registered(pytest_plugin):
        pluginmanager.register(pytest_plugin, INSTALLED)
    pytest_plugin.add_options(parser, "--")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse bad options, also of the suite that is measured by default."""
    pytest_plugin.check(config)
