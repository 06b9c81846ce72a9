"""The live page: a run folder, or a server's job, shown in the browser as it grows. Read-only, on this machine only."""
