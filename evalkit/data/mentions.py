"""Where the names of data sets stand in the names of folders and files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from evalkit.data.card import load_cards
from evalkit.data.words import SEPARATORS, folded


class Mentions:
    """Finds the names of data sets in texts.

    Attributes:
        ours: name -> all that the data set is called.
        elsewhere: the same, of registered data sets that are not among ours.
    """

    def __init__(self, ours: Mapping[str, Sequence[str]]) -> None:
        self.ours = ours
        taken = {folded(text) for texts in self.ours.values() for text in texts}
        cards = {card.name: (card.name, *card.aliases, *card.folders) for card in load_cards()}
        self.elsewhere = {  # that none of ours has; "samples" is a word like any other
            name: texts
            for name, texts in cards.items()
            if name != "samples" and not taken & {folded(text) for text in texts}
        }
        self.regex = {name: _words(texts) for name, texts in {**self.ours, **self.elsewhere}.items()}
        above = {name: [p for t in texts for p in t.split("/")[:-1]] for name, texts in self.ours.items()}
        self.above = {name: _words(texts) if texts else None for name, texts in above.items()}
        self.known: dict[str, frozenset[str]] = {}

    def within(self, text: str) -> frozenset[str]:
        """The data sets that a text names; of a name within another, such as MRI in MRI_CT, the longer."""
        if text not in self.known:
            spans = [(match.span(), name) for name, regex in self.regex.items() for match in regex.finditer(text)]
            self.known[text] = frozenset(
                name
                for (start, end), name in spans
                if not any(s <= start and end <= e and (s, e) != (start, end) for (s, e), _ in spans)
            )
        return self.known[text]

    def without(self, dataset: str, text: str) -> str:
        """A text without the data set's name and the separators around it."""
        for regex in (self.regex[dataset], self.above[dataset]):
            if regex is not None:
                text = regex.sub(lambda match: match.string[match.start() - 1 : match.start()], text)
        return text.strip(SEPARATORS)


def _words(texts: Iterable[str]) -> re.Pattern[str]:
    """Any of these names as a word, whatever separators it has."""
    last = {text.split("/")[-1] for text in texts}
    spelled = [r"[\W_]*".join(map(re.escape, re.findall(r"[^\W_]+", text))) for text in last]
    ordered = sorted(filter(None, spelled), key=lambda text: (-len(text), text))
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(ordered) or '(?!)'})(?![^\W_])(?:(?<=^)|[-_. ]*)", re.IGNORECASE)
