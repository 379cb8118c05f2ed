"""The command lines of the commands, one module each; tools/ and `detector` start them."""
