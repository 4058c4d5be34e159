"""Parameters in scripts: each placeholder becomes what the interpreter itself calls the environment variable.

A value is therefore never part of the program: whatever is in it, it cannot become code. Where a placeholder stands
in a shell script only decides how the variable is written there, so that it is one word with just that text.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Callable, Dict, List, Tuple

from quartzflow_agent.substitution import (
    PARAMS,
    Placeholder,
    SubstitutionError,
    gettext_noop,
    placeholders,
    rewrite,
)

PARAM_PREFIX = "QF_PARAM_"
DEFAULT_INTERPRETER = "sh"
POSIX_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh"})
OTHERS: Dict[str, Callable[[str], str]] = {
    "fish": lambda name: f'"${name}"',
    "python": lambda name: f"__import__('os').environ['{name}']",
    "perl": lambda name: f"$ENV{{{name}}}",
    "ruby": lambda name: f"ENV['{name}']",
    "node": lambda name: f"process.env.{name}",
}
_HEREDOC = re.compile(r"<<(-?)[ \t]*((?:'[^'\n]*'|\"[^\"\n]*\"|\\.|[^\s'\"\\;&|<>()])+)")
_COMPARED = re.compile(r"\s-(eq|ne|lt|le|gt|ge)\s")
_CASE = re.compile(r"\bcase\b")
_UNCLEAR = re.compile(r"['\"\\`]|\s#")


def variable(name: str) -> str:
    """The environment variable that a parameter arrives in."""
    return PARAM_PREFIX + name.upper()


def interpreter_of(command: str, interpreter: str) -> str:
    """What runs the command: by its first line if that says so, else by the setting ("": sh). "python3.11": python."""
    if command.startswith("#!"):
        words = command[2:].split("\n", 1)[0].split()
        if words and PurePosixPath(words[0]).name == "env":
            words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        interpreter = words[0] if words else ""
    name = PurePosixPath(interpreter or DEFAULT_INTERPRETER).name
    return re.sub(r"^(python|ruby|perl|node)(js)?[\d.]*$", r"\1", name)


def fill_script(command: str, interpreter: str) -> str:
    """The command with each `{{ params.NAME }}` written as its environment variable. Raises SubstitutionError."""
    found = placeholders(command)
    for one in found:
        if one.namespace != PARAMS:
            raise SubstitutionError(
                gettext_noop("%(text)s cannot stand in a command; set an environment variable to it."),
                text=one.text,
            )
    if not found:
        return command
    name = interpreter_of(command, interpreter)
    if name in POSIX_SHELLS:
        written = dict(_Shell(command, found).references())
        return rewrite(command, lambda one: written[one])
    if name in OTHERS:
        return rewrite(command, lambda one: OTHERS[name](variable(one.name)))
    raise SubstitutionError(
        gettext_noop(
            "%(text)s is not filled in for %(interpreter)s; read the environment variable %(variable)s."
        ),
        text=found[0].text,
        interpreter=name,
        variable=variable(found[0].name),
    )


PLAIN, DOUBLE, PAREN, BACKTICK, ARITHMETIC = "plain", '"', "(", "`", "(("


class _Shell:
    """Reads a POSIX shell script as far as is needed to know in which quotes a placeholder stands."""

    def __init__(self, text: str, found: List[Placeholder]) -> None:
        self._text = text
        self._at = {one.start: one for one in found}
        self._found: List[Tuple[Placeholder, str]] = []
        self._stack = [PLAIN]
        self._opened: List[int] = []  # where each ( of the stack stands
        self._unclear = False  # from here on the quotes cannot be told without being the shell
        self._heredocs: List[Tuple[str, bool, bool]] = []  # (end, leading tabs go, quoted) of those to come

    def references(self) -> List[Tuple[Placeholder, str]]:
        """What is to be written for each placeholder. Raises SubstitutionError where none would be right."""
        position = 0
        while position < len(self._text):
            one = self._at.get(position)
            if one is not None:
                self._take(one)
                position = one.end
            elif self._stack[-1] == DOUBLE:
                position = self._in_double(position)
            else:
                position = self._outside(position)
        return self._found

    def _take(self, one: Placeholder) -> None:
        top = self._stack[-1]
        if BACKTICK in self._stack:
            raise _misplaced(one, gettext_noop("in backticks; write $( ) instead"))
        if ARITHMETIC in self._stack:
            raise _misplaced(one, gettext_noop("in arithmetic, which would evaluate it"))
        if self._unclear:
            raise _misplaced(one, gettext_noop("behind a construct whose quotes are not clear"))
        self._not_escaped(one)
        self._not_compared(one)
        bare = f"${{{variable(one.name)}}}"
        self._found.append((one, bare if top == DOUBLE else f'"{bare}"'))

    def _not_escaped(self, one: Placeholder) -> None:
        if self._text[: one.start].endswith(("\\", "$")):
            raise _misplaced(one, gettext_noop("behind a \\ or $"))

    def _not_compared(self, one: Placeholder) -> None:
        """In [[ ]] the shells evaluate what -eq and its like compare."""
        begin = self._text.rfind("[[", 0, one.start)
        end = self._text.find("]]", one.end)
        inside = begin >= 0 and end >= 0 and "]]" not in self._text[begin : one.start]
        if inside and _COMPARED.search(self._text, begin, end):
            raise _misplaced(one, gettext_noop("in arithmetic, which would evaluate it"))

    def _in_double(self, position: int) -> int:
        char = self._text[position]
        if char == "\\":
            return self._escaped(position)
        if char == '"':
            self._stack.pop()
        elif char in "$`":
            return self._substitution(position)
        return position + 1

    def _outside(self, position: int) -> int:
        text, char = self._text, self._text[position]
        if char == "\\":
            return self._escaped(position)
        if char == "'":
            return self._single(position, escapes=text[:position].endswith("$"))
        if char == '"':
            self._stack.append(DOUBLE)
        elif char in "$`":
            return self._substitution(position)
        elif char == "(":
            return self._open(position)
        elif char == ")":
            return self._close(position)
        elif char == "#" and (position == 0 or text[position - 1] in " \t\n;&|()"):
            return self._comment(position)
        elif char == "<" and text.startswith("<<<", position):
            return position + 3
        elif char == "<" and (heredoc := _HEREDOC.match(text, position)):
            return self._heredoc(heredoc)
        elif char == "\n" and self._heredocs:
            return self._bodies(position + 1)
        return position + 1

    def _escaped(self, position: int) -> int:
        # A placeholder behind it is looked at, and refused.
        return position + (1 if position + 1 in self._at else 2)

    def _single(self, position: int, escapes: bool) -> int:
        """To the end of '…', or of bash's $'…', in which a backslash escapes."""
        end = position + 1
        while end < len(self._text) and self._text[end] != "'":
            if end in self._at:
                raise _misplaced(self._at[end], gettext_noop("in single quotes, where nothing is filled in"))
            end += 2 if escapes and self._text[end] == "\\" else 1
        return end + 1

    def _substitution(self, position: int) -> int:
        """`…`, $(…) or $((…)) begins or ends here; any other $ is nothing special."""
        text = self._text
        if text[position] == "`":
            if self._stack[-1] == BACKTICK:
                self._stack.pop()
            else:
                self._stack.append(BACKTICK)
        elif text.startswith("$(", position):
            return self._open(position + 1)
        elif text.startswith("${", position) and _UNCLEAR.search(text[position:].split("}", 1)[0]):
            self._unclear = True
        return position + 1

    def _open(self, position: int) -> int:
        arithmetic = self._text.startswith("((", position)
        self._stack.append(ARITHMETIC if arithmetic else PAREN)
        self._opened.append(position)
        return position + (2 if arithmetic else 1)

    def _close(self, position: int) -> int:
        top = self._stack[-1]
        if top not in (PAREN, ARITHMETIC):
            return position + 1  # of a case
        self._stack.pop()
        # Whether a ) ends a pattern of `case` or the parenthesis is only clear where there is none.
        self._unclear |= bool(_CASE.search(self._text, self._opened.pop(), position))
        return position + (2 if top == ARITHMETIC and self._text.startswith("))", position) else 1)

    def _comment(self, position: int) -> int:
        end = self._text.find("\n", position)
        end = len(self._text) if end < 0 else end
        inside = [one for one in self._at.values() if position < one.start < end]
        self._found += [(one, f'"${{{variable(one.name)}}}"') for one in inside]
        return end

    def _heredoc(self, found: "re.Match[str]") -> int:
        word = found.group(2)
        if any(found.start() < at < found.end() for at in self._at):
            raise _misplaced(next(one for at, one in self._at.items() if at > found.start()),
                             gettext_noop("in the end mark of a here-document"))  # fmt: skip
        self._heredocs.append(
            (re.sub(r"['\"\\]", "", word), found.group(1) == "-", bool(re.search(r"['\"\\]", word)))
        )
        return found.end()

    def _bodies(self, position: int) -> int:
        """Past the bodies of the here-documents that were announced in the line before."""
        for end, tabs, quoted in self._heredocs:
            start = position
            while position < len(self._text):
                line = self._text[position:].split("\n", 1)[0]
                position += len(line) + 1
                if (line.lstrip("\t") if tabs else line) == end:
                    break
            self._body(start, min(position, len(self._text)), quoted)
        self._heredocs = []
        return min(position, len(self._text))

    def _body(self, start: int, end: int, quoted: bool) -> None:
        runs = "$(" in self._text[start:end] or "`" in self._text[start:end]
        for one in self._at.values():
            if not start <= one.start < end:
                continue
            if quoted:
                raise _misplaced(
                    one, gettext_noop("in a here-document with a quoted end mark, where nothing is filled in")
                )
            if runs:
                raise _misplaced(one, gettext_noop("in a here-document that runs commands"))
            self._not_escaped(one)
            self._found.append((one, f"${{{variable(one.name)}}}"))


def _misplaced(one: Placeholder, where: str) -> SubstitutionError:
    return MisplacedError(one.text, where, variable(one.name))


class MisplacedError(SubstitutionError):
    """A placeholder stands where a shell could not take it as one piece of text."""

    def __init__(self, text: str, where: str, name: str) -> None:
        self.where = where
        super().__init__(
            gettext_noop(
                "%(text)s stands %(where)s; move it, or read the environment variable %(variable)s."
            ),
            text=text,
            where=where,
            variable=name,
        )

    def render(self, gettext: Callable[[str], str] = gettext_noop) -> str:
        return gettext(self.message) % {**self.params, "where": gettext(self.where)}
