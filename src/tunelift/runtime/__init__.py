"""What stages share at run time: the machine, models, chat rendering, progress, tracking, worker processes."""
