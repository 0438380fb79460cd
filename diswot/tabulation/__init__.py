"""Tables of trained networks: which networks, their trainings side by side, and the CSV that `diswot study` reads."""
