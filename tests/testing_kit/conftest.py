"""The fixtures of the plugin, also where the package was installed before it had one."""

from offloop.testing.plugin import (
    offloop_events,
    offloop_faults,
    offloop_kit,
    offloop_session,
    offloop_settings,
)

__all__ = ("offloop_events", "offloop_faults", "offloop_kit", "offloop_session", "offloop_settings")
