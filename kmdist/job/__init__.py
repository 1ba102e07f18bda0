"""What every recipe's run goes through, whatever it clusters."""
