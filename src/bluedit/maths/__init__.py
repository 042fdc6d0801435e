"""The equation: schedules, the solver, preservation operators, filters. Matrices in, matrices out."""
