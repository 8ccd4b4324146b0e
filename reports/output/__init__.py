"""What a page is made of, and how it becomes HTML, Markdown, CSV and SVG."""
