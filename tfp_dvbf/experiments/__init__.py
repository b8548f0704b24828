"""What the scripts are made of: command lines, run folders, searches, tables and figures."""
