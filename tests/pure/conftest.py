"""How the pure tests search for counterexamples."""

from __future__ import annotations

from hypothesis import settings

# No deadline: what takes long on a busy machine is no defect of a pure function.
settings.register_profile("pure", deadline=None)
settings.load_profile("pure")
