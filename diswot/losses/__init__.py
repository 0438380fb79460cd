"""Distillation losses: `create(expression, **options)` gives a module called as `loss(student, teacher, target)`, which returns a dict of
named terms, already weighted; their sum is what is minimised.

The functions take plain tensors. KL divergences are KL(teacher || student), summed over classes and averaged over the batch. The
teacher's side is detached.
"""

from diswot.losses.base import LOSSES, NO_LABEL, Loss, SingleTermLoss, SupervisedLoss
from diswot.losses.block_attention import afd
from diswot.losses.expression import WeightedSum, create, signature
from diswot.losses.features import at, attention, fitnets, ickd, mgd, nst, ofd, ofd_margin, pefd
from diswot.losses.logits import dist, dkd, kd, logit_std, skd, spherical, ssld, symmetric, wsl
from diswot.losses.relations import cc, pkt, relation, rkd_angle, rkd_distance, semantic, sp
from diswot.schemes import Terms

__all__ = [
    "LOSSES",
    "NO_LABEL",
    "Loss",
    "SingleTermLoss",
    "SupervisedLoss",
    "Terms",
    "WeightedSum",
    "afd",
    "at",
    "attention",
    "cc",
    "create",
    "dist",
    "dkd",
    "fitnets",
    "ickd",
    "kd",
    "logit_std",
    "mgd",
    "nst",
    "ofd",
    "ofd_margin",
    "pefd",
    "pkt",
    "relation",
    "rkd_angle",
    "rkd_distance",
    "semantic",
    "signature",
    "skd",
    "sp",
    "spherical",
    "ssld",
    "symmetric",
    "wsl",
]
