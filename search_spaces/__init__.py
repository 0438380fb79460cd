"""The built-in search spaces, one file each.

`diswot.load_space(name)` finds them by their names. A search space of your own can be in any module.
"""
