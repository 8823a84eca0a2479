"""Whether a record is of the very pairs that a paper's table is of: by their names and content, not by their count."""

from __future__ import annotations

from evalkit.data.card import Card
from evalkit.errors import UnknownNameError
from evalkit.metrics.card import TASK_CONVENTIONS
from evalkit.protocols.schema import Protocol
from evalkit.protocols.use import DatasetUse
from evalkit.records.record import Record

MASKED = TASK_CONVENTIONS["saliency"]  # whose records' content hash is also over the masks


def other_data(record: Record, protocol: Protocol) -> str:
    """Why a record's values stand beside no printed ones: it is of other pairs, or of a network trained otherwise.

    The paper's own data are what the data set's card says: the pairs of a split by list, or all pairs of a split or of
    the whole set, where the paper measured as many; with the content that the card knows, where it knows it.

    Args:
        record: of any version; what a network costs is of no data.
        protocol: of the table. A reader's own benchmark is of whatever pairs its file says.

    Returns:
        The reason; empty where the record is of the table's data.
    """
    name = record.dataset["name"]
    if reason := record.not_comparable:
        return reason
    if not protocol.paper or name not in protocol.datasets or record.method.get("filled_from") == "code":
        return ""
    use, card = protocol.datasets[name], protocol.card(name)
    return unknown_pairs(use, card) or _other_content(record, use.split or card.default_split, card)


def unknown_pairs(use: DatasetUse, card: Card) -> str:
    """Why nobody can tell which pairs a paper measured; empty where the data set's card has them.

    Args:
        use: the paper's of the data set.
        card: of the data set; a count that it does not state says nothing.
    """
    split = use.split or card.default_split
    try:
        count = card.expected(split)
    except UnknownNameError:  # of a user's card in place of another
        return f"{card.name} has no split {split}, which the paper measured"
    part = f"its split {split} has" if split else "the data set has"
    if use.unlisted:
        return f"which {use.pairs} pairs of {card.name} the paper measured is not published"
    if use.pairs in (None, count) or count is None:
        return ""
    return f"which {use.pairs} pairs of {card.name} the paper measured is not published: {part} {count}"


def _other_content(record: Record, split: str | None, card: Card) -> str:
    known = card.content_of(split)
    part = f"{card.name}, split {split}" if split else card.name
    if known and record.convention != MASKED:
        same = record.dataset.get("content_hash") == known
        return "" if same else f"its pairs are not those of {part}: names or image files are others (content hash)"
    if record.dataset.get("split") != split:
        return f"measured on {record.dataset.get('split') or 'no split'} of {card.name}, the paper's table on {part}"
    return ""
