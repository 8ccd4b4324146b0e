"""The commands of `moegap`, one per file; heavy imports stand inside them so that --help is quick."""
