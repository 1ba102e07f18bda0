"""From what a user names to files: folders, globs, lists, samples, remote stores."""
