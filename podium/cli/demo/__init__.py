"""`podium demo`: all of Podium, the real Claude Code CLI, and a scripted model, for one minute in one folder."""
