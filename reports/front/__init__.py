"""What frames the sections: the title, the verdict, the machines, and the commands that make it all again."""
