"""Where in a kernel's source each operator of tools/mutate fits, and what it puts there."""
import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
DECLARATION = re.compile(
    r"^\s*(#|template\b|constexpr\b|static constexpr\b|static_assert|using\b|RANVIER_SHARED|namespace\b|enum\b)"
    r"|__launch_bounds__|\bconstexpr (int|int64_t|size_t|unsigned)\b")
LOCAL_ARRAY = re.compile(
    r"^\s*(?!return\b|else\b|case\b)(?:const )?[A-Za-z_][\w:<>]* \w+(?:\[[^\]]*\])+(?: = \{.*\})?"
    r"(?:, \w+(?:\[[^\]]*\])+)*;")

Mutation = collections.namedtuple("Mutation", "file operator start end text line before after")


def code_only(source):
    """The source with comments, strings and declarations blanked, every character in its place."""
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))
    code = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"', blank, source, flags=re.S)
    lines, inside_macro = [], False
    for line in code.split("\n"):
        hidden = inside_macro or DECLARATION.search(line) or LOCAL_ARRAY.search(line)
        inside_macro = line.endswith("\\") and (inside_macro or line.lstrip().startswith("#"))
        lines.append(" " * len(line) if hidden else line)
    return "\n".join(lines)


def matching(code, at):
    """The place of the bracket that closes the one at `at`, or None."""
    pairs, depth = {"(": ")", "[": "]", "{": "}"}, []
    for i in range(at, len(code)):
        if code[i] in pairs:
            depth.append(pairs[code[i]])
        elif depth and code[i] == depth[-1]:
            depth.pop()
            if not depth:
                return i
    return None


def operand_end(code, at):
    """Where the operand that starts at `at` ends: before &&, ||, ?, a comma, a semicolon or the enclosing bracket."""
    depth = 0
    for i in range(at, len(code)):
        if code[i] in "([{":
            depth += 1
        elif code[i] in ")]}":
            if depth == 0:
                return i
            depth -= 1
        elif depth == 0 and (code[i] in ",;?" or code.startswith(("&&", "||"), i)):
            return i
    return len(code)


def operand_start(code, at, stops=("&&", "||", ": ")):
    """Where the operand that ends at `at` starts: after `stops`, ?, =, a comma, `return` or the enclosing bracket."""
    depth = 0
    for i in range(at - 1, -1, -1):
        if code[i] in ")]}":
            depth += 1
        elif code[i] in "([{":
            if depth == 0:
                return i + 1
            depth -= 1
        elif depth == 0:
            assigned = code[i] == "=" and code[i + 1] != "=" and code[i - 1] not in "=<>!"
            if code[i] in ",;?" or assigned or code[i - 1:i + 1] in stops:
                return i + 1
            if code.startswith("return ", i):
                return i + len("return ")
    return 0


def index_sites(code):
    for match in re.finditer(r"(?<=[\w\])])\[", code):
        end = matching(code, match.start())
        inner = code[match.end():end].strip() if end else ""
        if inner:
            for change in ("+ 1", "- 1"):
                yield match.end(), end, f"({inner}) {change}"


def stride_sites(code):
    name = r"[A-Za-z_][\w.]*(?:\[\w+\])?"
    for match in re.finditer(rf"({name}) \* ({name}) \+ ({name})( \* ({name}))?(?![\w.(\[<])", code):
        a, b, c, _, d = match.groups()
        swapped = f"{a} * {d} + {c} * {b}" if d else f"{c} * {b} + {a}"
        if swapped != match.group(0):
            yield match.start(), match.end(), swapped


def barrier_sites(code):
    for match in re.finditer(r"__sync(threads|warp)\(\w*\)", code):
        yield match.start(), match.end(), "(void)0"


def phase_sites(code):
    for match in re.finditer(r"\^=? 1(u?)\b", code):
        yield match.start(), match.end(), match.group(0).replace("1", "0")
    for match in re.finditer(r"(?<=[\w)\]]) & 1(u?)\b(?!\s*\^)", code):
        yield match.start(), match.end(), match.group(0) + " ^ 1"
    for match in re.finditer(r"% \w*([sS]tage|[pP]hase|[rR]ing|[bB]uffer)\w*", code):
        yield match.start(), match.end(), match.group(0) + " ^ 1"


def count_sites(code):
    for match in re.finditer(r"(?<![\w.\"'])\d+(?=u?\b)(?![\w]*[.x'])", code):
        value = int(match.group(0))
        for changed in {value + 1, max(value - 1, 0)} - {value}:
            yield match.start(), match.end(), str(changed)


def mask_sites(code):
    for match in re.finditer(r"\bif (constexpr )?\(", code):
        end = matching(code, match.end() - 1)
        if end and not match.group(1):
            yield match.end(), end, "true"
    for match in re.finditer(r" \? ", code):
        start = operand_start(code, match.start(), stops=(": ",))
        while start < match.start() and code[start].isspace():
            start += 1
        yield start, match.start(), "true"
    for match in re.finditer(r" && ", code):
        end = operand_end(code, match.end())
        yield match.start(), end - (code[end - 1] == " "), ""
        start = operand_start(code, match.start())
        while start < match.start() and code[start].isspace():
            start += 1
        yield start, match.end(), ""


def compare_sites(code):
    other = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
    for match in re.finditer(r"(?<= )(<=|>=|<|>)(?= )", code):
        yield match.start(), match.end(), other[match.group(0)]


OPERATORS = {"index": index_sites, "stride": stride_sites, "barrier": barrier_sites, "phase": phase_sites,
             "count": count_sites, "mask": mask_sites, "compare": compare_sites}


def mutations_of(file):
    """Every mutation of a file, by operator."""
    source = (ROOT / file).read_text()
    code = code_only(source)
    found = {}
    for operator, sites in OPERATORS.items():
        for start, end, text in sites(code):
            if not code[start:end].strip() or source[start:end] == text:
                continue
            first, last = source.rfind("\n", 0, start) + 1, source.find("\n", end)
            squeeze = lambda piece: " ".join(piece.split())
            before = squeeze(source[first:last])
            after = squeeze(source[first:start] + text + source[end:last])
            mutation = Mutation(file, operator, start, end, text, source.count("\n", 0, start) + 1, before, after)
            found.setdefault(operator, []).append(mutation)
    return found
