"""The gateway takes commands, decides, appends what was asked to the log, and shows what happens. It keeps no state."""
