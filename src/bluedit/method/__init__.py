"""The mathematics of locate-then-edit: schedules, targets, keys, preservation, the one solver, recipes as rows."""
