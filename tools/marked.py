"""Put what a tool has made between its two comments of a page."""


def updated(page: str, subject: str, tool: str, made: str) -> str:
    """Return a page with what a tool has made of a subject between the comments that name both."""
    begin, end = f"<!-- {subject}: made by tools/{tool}.py -->\n", f"<!-- end of {subject} -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the page lacks the markers {begin.strip()} and {end}")
    return f"{before}{begin}\n{made}\n{end}{after}"
