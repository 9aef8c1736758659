"""What the parts need of each other, as protocols: the rules and loops know these, never the adapter behind them."""
