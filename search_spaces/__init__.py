"""The search spaces, one file each. `diswot.load_space(name)` finds them; a space of your own needs no place here."""
