"""Code that is not re-entrant runs in a process of its own, with a folder, a log and a time limit."""
