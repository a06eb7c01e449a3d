"""Run directories become one page: the table, the pictures, the figures, and where every number comes from."""
