#!/usr/bin/env python3
"""Links of the documentation lead to files, and to headings, that are there: links_test.py ROOT."""
import os
import re
import sys

root = os.path.abspath(sys.argv[1])
LINK = re.compile(r"\]\(([^()\s]+)\)")


def pages():
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(".") and f != "build"]
        yield from (os.path.join(folder, f) for f in files if f.endswith(".md"))


def lines(path):
    """Lines of text with their numbers, without blocks of code."""
    fenced = False
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
            elif not fenced and not line.startswith("    "):
                yield number, line


def anchors(path):
    """What GitHub calls the headings of a page."""
    found, seen = set(), {}
    for _, line in lines(path):
        if heading := re.match(r"#+ +(.*?)\s*$", line):
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1])
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = seen[name] = seen.get(name, -1) + 1
            found.add(f"{name}-{count}" if count else name)
    return found


wrong = []
for page in pages():
    for number, line in lines(page):
        for link in LINK.findall(line):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            where = f"{os.path.relpath(page, root)}:{number}: {link}"
            if not os.path.exists(target):
                wrong.append(f"{where}: no such file")
            elif anchor and target.endswith(".md") and anchor not in anchors(target):
                wrong.append(f"{where}: no such heading")
if wrong:
    sys.exit("\n".join(wrong))
