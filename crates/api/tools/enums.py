#!/usr/bin/env python3
"""Which strings the fields of upstream's types may have, for OpenAPI.

Usage: enums.py REPOSITORY BRANCH > facts/enums.txt, with a clone of k8s.io/api. A line is a type, a field, and after a
tab the values, in order, separated by `|`; one of them may be empty. Only types that upstream marks as `+enum` count, and
fields of types in `facts/types.txt`.
"""

import pathlib
import re
import subprocess
import sys

repository, branch = sys.argv[1:]


def git(*args):
    return subprocess.run(["git", "-C", repository, *args], capture_output=True, text=True, check=True).stdout


packages = {}
for path in git("ls-tree", "-r", "--name-only", branch).splitlines():
    if re.fullmatch(r"[a-z]+/v\w+/\w+\.go", path) and "generated" not in path and "swagger_doc" not in path:
        packages.setdefault(path.rsplit("/", 1)[0], []).append(git("show", f"{branch}:{path}"))

enums = {}  # (package, type) -> values
strings = {}  # (package, constant) -> value
for package, sources in packages.items():
    for source in sources:
        doc = []
        for line in source.splitlines():
            if line.startswith("//"):
                doc.append(line)
                continue
            if (m := re.match(r"type (\w+) string", line)) and any(re.match(r"//\s*\+enum\b", d) for d in doc):
                enums[package, m[1]] = set()
            if line:
                doc = []


def imports(source):
    return {
        m[1] or m[2].rsplit("/", 1)[1]: m[2]
        for m in re.finditer(r'^\s+(?:(\w+) )?"k8s\.io/api/([\w/]+)"', source, re.M)
    }


constant = re.compile(r'^\s*(?:const )?(\w+)\s+(?:(\w+)\s*)?=\s*(?:(\w+)\()?(?:"([^"]*)"|(?:(\w+)\.)?(\w+))\)?\s*(?://.*)?$')
# Twice: constants of one package are conversions of another's.
for _ in range(2):
    for package, sources in packages.items():
        for source in sources:
            known = imports(source)
            for m in filter(None, map(constant.match, source.splitlines())):
                name, declared, converted, literal, alias, other = m.groups()
                if literal is None:
                    literal = strings.get((known.get(alias, package), other))
                if literal is None:
                    continue
                strings[package, name] = literal
                if (package, declared or converted) in enums:
                    enums[package, declared or converted].add(literal)

structs = {}  # (package, struct) -> [(field, values)] and the structs it inlines
for package, sources in packages.items():
    for source in sources:
        known = imports(source)
        inside = None
        for line in source.splitlines():
            if m := re.match(r"type (\w+) struct \{", line):
                inside = structs.setdefault((package, m[1]), ([], []))
            elif line.startswith("}"):
                inside = None
            elif inside and (m := re.match(r'\s+(?:\w+\s+)?(?:\*|\[\]|map\[[\w.]+\])*(?:(\w+)\.)?(\w+)\s+`json:"([^",]*)(,inline)?', line)):
                alias, kind, field, inline = m.groups()
                of = (known.get(alias, "?") if alias else package, kind)
                if inline:
                    inside[1].append(of)
                elif enums.get(of):
                    inside[0].append((field, sorted(enums[of])))


def fields(key):
    own, inlined = structs.get(key, ([], []))
    return own + [f for i in inlined for f in fields(i)]


types = pathlib.Path(__file__).parent.parent / "facts/types.txt"
served = set(re.findall(r"^(api\S+)", types.read_text(), re.M))
print("# Made by tools/enums.py.")
for package, name in sorted(structs):
    name_of_type = f"api.{package.replace('/', '.')}.{name}"
    for field, values in sorted(fields((package, name))) if name_of_type in served else []:
        print(f"{name_of_type} {field}\t{'|'.join(values)}")
