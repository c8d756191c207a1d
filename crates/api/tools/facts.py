#!/usr/bin/env python3
"""Turns a dump of upstream's type facts (facts.json) into Skiff's own compact tables.

    python3 crates/api/tools/facts.py path/to/facts.json crates/api/facts

Writes `types.txt` and `resources.txt`, which `src/facts.rs` reads at start; the grammar is described there.
Only what GA resources, a few betas (`BETAS`) and the machinery around them reach is kept.
"""
import copy
import json
import re
import sys

META = "apimachinery.pkg.apis.meta.v1."
SCALARS = {
    "string": "str", "boolean": "bool", "integer:int32": "i32", "integer:int64": "i64", "number:double": "f64",
    "string:byte": "bytes", "string:date-time": "time", "any": "any", "object": "any",
    "string:int-or-string": "intstr",
}
PROTO_SCALARS = {
    "string": "str", "bool": "bool", "int32": "i32", "int64": "i64", "uint32": "i64", "uint64": "i64",
    "double": "f64", "bytes": "bytes",
}
NAMED = {
    "apimachinery.pkg.api.resource.Quantity": "quantity",
    "apimachinery.pkg.util.intstr.IntOrString": "intstr",
    META + "Time": "time", META + "MicroTime": "microtime", META + "Duration": "duration",
    META + "FieldsV1": "fields", "apimachinery.pkg.runtime.RawExtension": "raw",
    "apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON": "json",
    "apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "schemaorbool",
    "apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "schemaorarray",
    "apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "schemaorstrings",
}
WRAPPED = re.compile(r"(ExtraValue|\bVerbs)$")
# Types that requests, answers and webhooks need beside the resources themselves.
EXTRA = [META + n for n in (
    "Status", "WatchEvent", "DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "GetOptions",
    "ListOptions", "PartialObjectMetadata", "PartialObjectMetadataList", "APIVersions",
    "APIGroup", "APIGroupList", "APIResourceList")] + ["api.core.v1." + n for n in (
    "PodLogOptions", "PodExecOptions", "PodAttachOptions", "PodPortForwardOptions", "PodProxyOptions",
    "ServiceProxyOptions", "NodeProxyOptions", "RangeAllocation", "SerializedReference")] + [
    "api.admission.v1.AdmissionReview", "api.authentication.v1.TokenRequest", "api.policy.v1.Eviction",
    "api.autoscaling.v1.Scale", "api.core.v1.Binding", "apimachinery.pkg.version.Info"]

# Kinds that upstream's OpenAPI doesn't name, because no path serves them alone.
EXTRA_GVK = {
    META + "PartialObjectMetadata": "meta.k8s.io/v1/PartialObjectMetadata",
    META + "PartialObjectMetadataList": "meta.k8s.io/v1/PartialObjectMetadataList",
    META + "DeleteOptions": "v1/DeleteOptions",
    META + "APIVersions": "v1/APIVersions",
    "api.admission.v1.AdmissionReview": "admission.k8s.io/v1/AdmissionReview",
}


# Betas that are served: no GA version of the kind was there in this release, and what uses it needs it.
BETAS = {
    ("certificates.k8s.io", "v1beta1", "clustertrustbundles"),
    ("certificates.k8s.io", "v1beta1", "podcertificaterequests"),
    ("storagemigration.k8s.io", "v1beta1", "storageversionmigrations"),
}
# Those betas became v1 in the next release, with the same protobuf numbers and without these fields. The dump knows
# the Go types of that v1, but not its schema, which is therefore the beta's.
PROMOTED = {
    "api.certificates.v1beta1.": {"PodCertificateRequestSpec": ["pkixPublicKey", "proofOfPossession"]},
    "api.storagemigration.v1beta1.": {},
}


def plain(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())


class Facts:
    def __init__(self, path):
        d = json.load(open(path))
        self.version = d["version"]
        self.types, self.proto, self.go = d["types"], d["protobuf"], d["go"]
        self.resources = [
            r for r in d["resources"]
            if re.fullmatch(r"v\d+", r["version"]) or (r["group"], r["version"], r["plural"]) in BETAS]
        for prefix, dropped in PROMOTED.items():
            self.promote(prefix, dropped)
        self.out = {}  # name -> (header tokens, field lines)
        self.queue = []

    def promote(self, prefix, dropped):
        """Adds the v1 of beta types and of their resources, where the dump lacks it."""
        new = prefix.replace("v1beta1", "v1")
        rename = lambda v: json.loads(json.dumps(v).replace(prefix, new).replace("k8s.io/v1beta1", "k8s.io/v1"))
        for table in (self.types, self.proto):
            for name in [n for n in table if n.startswith(prefix)]:
                kind = name.removeprefix(prefix)
                if new + kind in table:
                    continue
                fact = table[new + kind] = rename(table[name])
                for field in dropped.get(kind, []):
                    if table is self.types:
                        del fact["fields"][field]
                    else:
                        fact[:] = [p for p in fact if p[1] != field]
        group = next(t["gvk"][0].split("/")[0] for n, t in self.types.items() if n.startswith(new) and "gvk" in t)
        for r in [r for r in self.resources if r["group"] == group and r["version"] == "v1beta1"]:
            promoted = rename(copy.deepcopy(r))
            promoted["version"] = "v1"
            self.resources.append(promoted)

    def resolve(self, owner, name):
        """A message name as written in `owner`'s file, to its full name."""
        if name in self.proto or name in self.go:
            return name
        full = owner.rsplit(".", 1)[0] + "." + name
        return full if full in self.proto or full in self.go else None

    def token(self, owner, ty, proto_ty):
        """Type token of a JSON type expression; queues what it refers to."""
        if ty.startswith("[]"):
            return "[]" + self.token(owner, ty[2:], (proto_ty or "").removeprefix("[]"))
        if ty.startswith("map:"):
            m = re.fullmatch(r"map<string,\s*(.*)>", proto_ty or "")
            return "map:" + self.token(owner, ty[4:], m.group(1) if m else "")
        if ty == "string" and proto_ty and WRAPPED.search(proto_ty):
            return "str"
        if ty in NAMED:
            return NAMED[ty]
        if ty in SCALARS:
            return SCALARS[ty]
        self.queue.append(ty)
        return ty

    def token_from_proto(self, owner, pt):
        if pt.startswith("[]"):
            return "[]" + self.token_from_proto(owner, pt[2:])
        m = re.fullmatch(r"map<string,\s*(.*)>", pt)
        if m:
            return "map:" + self.token_from_proto(owner, m.group(1))
        if pt in PROTO_SCALARS:
            return PROTO_SCALARS[pt]
        full = self.resolve(owner, pt)
        if full is None:
            raise SystemExit(f"{owner}: unknown message {pt}")
        if full in NAMED:
            return NAMED[full]
        if WRAPPED.search(full):
            return "[]str"
        self.queue.append(full)
        return full

    def field(self, owner, name, spec, flags, proto, required):
        num, pt = (proto[0], proto[2]) if proto else (0, "")
        extra, f = [], ""
        if spec is None:
            if pt == "" and name in ("kind", "apiVersion"):
                ty = "str"
            else:
                ty = self.token_from_proto(owner, pt)
            spec = {}
        else:
            ty = self.token(owner, spec["type"], pt)
        # OpenAPI can't tell the two times apart, nor a wrapped list from a plain one.
        if "MicroTime" in pt:
            ty = ty.replace("time", "microtime") if "micro" not in ty else ty
        if WRAPPED.search(re.sub(r"[<>]", "", pt)):
            f += "w"
        f += ("r" if required else "") + ("p" if "p" in flags else "") + ("o" if "o" in flags else "")
        if spec.get("list") == "map":
            extra.append("map=" + ",".join(spec["keys"]))
        elif spec.get("list") == "set":
            extra.append("set")
        if spec.get("map_type") == "atomic":
            extra.append("atomic")
        patch = spec.get("patch", "").split(",")
        if "merge" in patch:
            extra.append("merge=" + spec.get("merge_key", ""))
        if "retainKeys" in patch:
            f += "k"
        if "replace" in patch:
            f += "s"
        return " ".join([" " + name, ty, f or "-", str(num)] + extra)

    def struct(self, name, fields=None, required=()):
        """Emits one struct. `fields` are given for an inlined struct, whose facts sit in its owner."""
        if name in self.out:
            return
        t = self.types.get(name)
        head, lines = [name], []
        self.out[name] = (head, lines)
        if t is not None and "fields" in t:
            fields, required = t["fields"], t.get("required", [])
        elif t is not None and "scalar" in t:
            fields, required = {}, []
        if t and t.get("map_type") == "atomic":
            head.append("atomic")
        for gvk in (t or {}).get("gvk", []):
            parts = gvk.split("/")
            # DeleteOptions and WatchEvent belong to every group; the OpenAPI writer knows that.
            if len(t["gvk"]) == 1 and gvk != "*":
                head.append("gvk=" + gvk)
        if name in EXTRA_GVK and not any(h.startswith("gvk=") for h in head):
            head.append("gvk=" + EXTRA_GVK[name])
        protos = {plain(p[1]): p for p in self.proto.get(name, [])}
        go = self.go.get(name)
        if go is None and fields is None:  # known from protobuf alone (GroupVersionKind)
            go = {p[1]: "" for p in sorted(protos.values())}
        if go is None:  # facts of another release lack it: protobuf order, `omitempty` unless required
            names = [n for _, n in sorted((protos.get(plain(n), [99])[0], n) for n in (fields or {}))]
            if fields and "kind" in fields and "apiVersion" in fields:
                names = ["kind", "apiVersion"] + [n for n in names if n not in ("kind", "apiVersion")]
            go = {}
            for n in names:
                rep = fields[n]["type"].startswith(("[]", "map:"))
                ref = "." in fields[n]["type"] and not rep
                go[n] = "" if n in required else ("po" if ref else "o")
        used = set()
        for n, flags in go.items():
            if flags == "inline":
                if n == "TypeMeta":
                    for k in ("kind", "apiVersion"):
                        if fields is None or k in fields:
                            lines.append(self.field(name, k, {"type": "string"}, "o", None, False))
                            used.add(k)
                    continue
                full = self.resolve(name, n)
                sub = {k: (fields or {}).get(k) for k in self.names(full)}
                if fields is not None:
                    sub = {k: v for k, v in sub.items() if v is not None}
                p = protos.get(plain(n)) or next((p for p in protos.values() if p[2] == n), None)
                lines.append(f" + {full} {p[0] if p else 0}")
                inner_t = self.types.get(full)
                self.struct(full, None if fields is None else sub, [r for r in required if r in sub])
                used.update(sub)
                continue
            if n == "-" or (fields is not None and n not in fields):
                continue
            p = protos.get(plain(n))
            if fields is None and p is None:
                print(f"note: {name}.{n} has no protobuf field, left out", file=sys.stderr)
                continue
            lines.append(self.field(name, n, fields[n] if fields is not None else None, flags, p, n in required))
            used.add(n)
        for n in fields or {}:
            if n not in used:
                spec, p = fields[n], protos.get(plain(n))
                rep = spec["type"].startswith(("[]", "map:"))
                flags = "" if n in required else "o" if rep else "po"
                print(f"note: {name}.{n} is not in the Go table ({flags}, {p})", file=sys.stderr)
                lines.append(self.field(name, n, spec, flags, p, n in required))
        if t is not None or fields is not None:
            for line in lines:
                if not line.startswith(" +") and line.split()[3] == "0" and self.proto.get(name) and line.split()[0] not in ("kind", "apiVersion"):
                    print(f"note: {name}:{line} has no protobuf number", file=sys.stderr)

    def names(self, full):
        out = []
        for n, flags in self.go[full].items():
            if flags == "inline":
                out += self.names(self.resolve(full, n))
            else:
                out.append(n)
        return out

    def run(self, folder):
        by_gvk = {}
        for n, t in self.types.items():
            for g in t.get("gvk", []):
                by_gvk.setdefault(g, n)
        rows = []
        for r in sorted(self.resources, key=lambda r: (r["group"], r["version"], r["plural"])):
            gv = f"{r['group']}/{r['version']}" if r["group"] else r["version"]
            name = by_gvk[f"{gv}/{r['kind']}"]
            self.queue.append(name)
            if f"{gv}/{r['kind']}List" in by_gvk:
                self.queue.append(by_gvk[f"{gv}/{r['kind']}List"])
            scope = "namespaced" if r["namespaced"] else "cluster"
            # OpenAPI has a watch parameter for all lists; these are made up on demand, and discovery says so.
            verbs = [v for v in r["verbs"] if v != "watch" or r["plural"] != "componentstatuses"]
            rows.append(f"{gv} {r['plural']} {r['kind']} {scope} {','.join(verbs)} {name}")
            for s, x in sorted(r["subresources"].items()):
                rows.append(f" {s} {x['kind']} {','.join(x['verbs'])}")
        self.queue += EXTRA
        while self.queue:
            self.struct(self.queue.pop(0))
        with open(f"{folder}/version.txt", "w") as f:
            f.write(self.version)
        head = "# Made by tools/facts.py; the grammar is in src/facts.rs.\n"
        with open(f"{folder}/types.txt", "w") as f:
            f.write(head)
            for n in sorted(self.out):
                h, lines = self.out[n]
                f.write("\n".join([" ".join(h)] + lines) + "\n")
        with open(f"{folder}/resources.txt", "w") as f:
            f.write(head + "\n".join(rows) + "\n")


if __name__ == "__main__":
    Facts(sys.argv[1]).run(sys.argv[2])
