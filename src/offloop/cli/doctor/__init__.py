"""The doctor: what of this machine, environment and process stands in the way of work in parallel."""

from .examining import examine
from .findings import Examination, Finding, Setting, Verdict

__all__ = ("Examination", "Finding", "Setting", "Verdict", "examine")
