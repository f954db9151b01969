"""Storage: the verbs that move rows, and the SQL behind them."""
