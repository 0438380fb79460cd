"""Training schemes: what students learn from, and so how they are trained together. One file each; a loss names its scheme."""

from diswot.schemes.alone import Alone
from diswot.schemes.base import Scheme, StepObservations, Terms
from diswot.schemes.peers import Peers
from diswot.schemes.previous_step import PreviousStep
from diswot.schemes.under_teacher import SELF, UnderTeacher

__all__ = ["SELF", "Alone", "Peers", "PreviousStep", "Scheme", "StepObservations", "Terms", "UnderTeacher"]
