"""The command line of prediction: what it reads, and how it writes maps, clouds and videos."""
