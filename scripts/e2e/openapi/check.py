# Reads an OpenAPI file and prints each thing that is wrong with it as a line: YAML that does not parse, a key that
# stands twice, a $ref or a security scheme that leads nowhere, a placeholder without a parameter, a part that nothing refers to.
import re
import sys

import yaml


class Loader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                print(f"{key.value} stands twice; the second time in line {key.start_mark.line + 1}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def refs(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def target(root, ref):
    if not ref.startswith("#/"):
        return None
    for step in ref[2:].split("/"):
        root = root.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(root, dict) else None
    return root


try:
    api = yaml.load(sys.stdin, Loader)
except yaml.YAMLError as e:
    sys.exit(print(f"no YAML: {e}"))
parts = api.get("components", {})
used = set(refs(api))
for ref in sorted(used):
    if target(api, ref) is None:
        print(f"$ref {ref} leads nowhere")
for kind in parts.keys() - {"securitySchemes"}:
    for name in parts[kind]:
        if f"#/components/{kind}/{name}" not in used:
            print(f"nothing refers to {kind}/{name}")
operations = 0
for path, item in api["paths"].items():
    for method, op in item.items():
        if method == "parameters":
            continue
        operations += 1
        given = [target(api, p["$ref"]) if "$ref" in p else p for p in item.get("parameters", []) + op.get("parameters", [])]
        given = {p["name"] for p in given if p and p["in"] == "path"}
        wanted = set(re.findall(r"\{(\w+)\}", path))
        if given != wanted:
            print(f"{method} {path} has the placeholders {sorted(wanted)} and the path parameters {sorted(given)}")
        if not op.get("summary") or not op.get("responses"):
            print(f"{method} {path} has no summary or no responses")
        for way in op.get("security", api.get("security", [])):
            for scheme in way:
                if scheme not in parts.get("securitySchemes", {}):
                    print(f"{method} {path} names the security scheme {scheme}, which is not there")
if operations < 50:
    print(f"only {operations} operations were seen")
