"""`waymark doctor`: what is wrong with an installation, a project and its home, each with its remedy.

A check is a function that is given the patient and yields findings; a new one is a line in `examination.CHECKS`, and a planted fault in its test.
"""

from waymark.pipeline.doctor.examination import CHECKS, examine, worst
from waymark.pipeline.doctor.patient import Finding, Patient, Verdict

__all__ = ["CHECKS", "Finding", "Patient", "Verdict", "examine", "worst"]
