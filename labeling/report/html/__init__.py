"""A run's report as one self-contained HTML page: tables, plots and the rows worth reading."""
