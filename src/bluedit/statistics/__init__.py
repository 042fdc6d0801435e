"""Second moments of keys over ordinary text: computed in one pass, stored, found again."""
