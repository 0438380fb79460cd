"""Distillation losses: `create(expression, **options)` gives a module called as `loss(student, teacher, target)`, which returns a dict of
named terms, already weighted; their sum is what is minimised.

The functions take plain tensors. KL divergences are KL(teacher || student), summed over classes and averaged over the batch. The
teacher's side is detached.
"""

import diswot.losses.curriculum  # noqa: F401 - a loss without a function of its own
from diswot.losses.base import FULL_LENGTH, LOSSES, NO_LABEL, Loss, SingleTermLoss, SupervisedLoss
from diswot.losses.block_attention import afd
from diswot.losses.contrast import crd
from diswot.losses.exits import ofa
from diswot.losses.expression import WeightedSum, create, scaled, signature, split_expressions
from diswot.losses.features import at, attention, fitnets, ickd, mgd, nst, ofd, ofd_margin, pefd
from diswot.losses.logits import dist, dkd, kd, logit_std, mlkd, skd, spherical, ssld, symmetric, wsl, wttm
from diswot.losses.phases import ab, fsp, ft
from diswot.losses.regression import hcl, srrl, vid
from diswot.losses.relations import cc, pkt, relation, rkd_angle, rkd_distance, semantic, sp
from diswot.losses.spectra import kdsvd
from diswot.losses.token import hard_label
from diswot.schemes import Terms

__all__ = [
    "FULL_LENGTH",
    "LOSSES",
    "NO_LABEL",
    "Loss",
    "SingleTermLoss",
    "SupervisedLoss",
    "Terms",
    "WeightedSum",
    "ab",
    "afd",
    "at",
    "attention",
    "cc",
    "crd",
    "create",
    "dist",
    "dkd",
    "fitnets",
    "fsp",
    "ft",
    "hard_label",
    "hcl",
    "ickd",
    "kd",
    "kdsvd",
    "logit_std",
    "mgd",
    "mlkd",
    "nst",
    "ofa",
    "ofd",
    "ofd_margin",
    "pefd",
    "pkt",
    "relation",
    "rkd_angle",
    "rkd_distance",
    "scaled",
    "semantic",
    "signature",
    "skd",
    "sp",
    "spherical",
    "split_expressions",
    "srrl",
    "ssld",
    "symmetric",
    "vid",
    "wsl",
    "wttm",
]
