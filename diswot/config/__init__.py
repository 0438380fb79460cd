"""The options of every verb, with their defaults, ranges and help; the flags of the command line are made from these."""

from diswot.config.fields import check_ranges, option, resolve, to_dict
from diswot.config.scoring import ScoreConfig, SearchConfig, StudyConfig
from diswot.config.tabulation import TabulateConfig
from diswot.config.training import CompareConfig, DistillConfig, Recipe, TrainConfig

__all__ = [
    "CompareConfig",
    "DistillConfig",
    "Recipe",
    "ScoreConfig",
    "SearchConfig",
    "StudyConfig",
    "TabulateConfig",
    "TrainConfig",
    "check_ranges",
    "option",
    "resolve",
    "to_dict",
]
