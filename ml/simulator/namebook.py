"""Names of people, streets and towns, made up for this world: lists by language, the common first, and a long tail of rare ones put together from parts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from ml.simulator.streams import Floats

ENGLISH, GERMAN, FRENCH = range(3)
# of the places in catalogue.PLACES: which language a name comes from
LANGUAGE_WEIGHTS = np.array([
    [0.92, 0.05, 0.03], [0.92, 0.06, 0.02], [0.93, 0.05, 0.02], [0.90, 0.07, 0.03], [0.96, 0.02, 0.02],
    [0.07, 0.68, 0.25], [0.06, 0.91, 0.03], [0.05, 0.05, 0.90], [0.70, 0.05, 0.25], [0.93, 0.05, 0.02],
])  # fmt: skip
COMMON_SHARE = 0.8  # the rest has a rare name, each as likely as another


@dataclass(frozen=True)
class Table:
    """Texts, and for each language how likely each is among its speakers: the k-th most common with 1 / (k + 3)."""

    texts: tuple[str, ...]
    weights: tuple[Floats, ...]


def _table(common: tuple[str, ...], rare: tuple[tuple[str, ...], ...]) -> Table:
    """common: a text of names for each language, most common first; rare: names for each language."""
    lists = [(names.split(), [name for name in dict.fromkeys(more) if name not in names.split()]) for names, more in zip(common, rare, strict=True)]
    texts = tuple(dict.fromkeys(name for names, more in lists for name in (*names, *more)))
    place = {text: code for code, text in enumerate(texts)}
    weights = []
    for names, more in lists:
        weight = np.zeros(len(texts))
        shares = 1.0 / (np.arange(len(names)) + 3)
        weight[[place[name] for name in names]] = COMMON_SHARE * shares / shares.sum()
        weight[[place[name] for name in more]] += (1 - COMMON_SHARE) / len(more)
        weights.append(weight)
    return Table(texts, tuple(weights))


def _joined(beginnings: str, endings: str) -> tuple[str, ...]:
    return tuple(first + last for first, last in product(beginnings.split(), endings.split()))


GIVEN = _table(
    (
        "Emma Thomas Sarah Daniel Laura William Hannah Michael Alice James Olivia Robert Grace Edward Megan Christopher Lucy Andrew Katherine Samuel "
        "Charlotte Benjamin Rebecca Joseph Elizabeth Oliver Victoria Matthew Abigail Henry Rachel Jonathan Margaret Patrick Natalie Nicholas Susan "
        "Gregory Patricia Timothy",
        "Anna Lukas Julia Maximilian Katharina Stefan Lena Michael Sophie Andreas Johanna Tobias Christine Matthias Franziska Sebastian Elisabeth "
        "Florian Martina Alexander Theresa Wolfgang Ursula Philipp Charlotte Johannes Barbara Heinrich Sabine Friedrich Annika Jürgen Birgit Günther "
        "Renate Klaus Silke Dominik",
        "Camille Thomas Marie Nicolas Julie Antoine Chloé Julien Sophie Pierre Élodie Guillaume Catherine François Isabelle Mathieu Nathalie Alexandre "
        "Juliette Vincent Caroline Olivier Margaux Benoît Hélène Laurent Véronique Philippe Amélie Étienne Geneviève Stéphane Monique Frédéric Claire "
        "Thierry Sylvie Bruno",
    ),
    (
        ("Ottoline", "Peregrine", "Thaddeus", "Isolde", "Barnaby", "Cordelia", "Evander", "Philippa", "Lysander", "Araminta", "Cosmo", "Guinevere",
         "Horatio", "Imogen", "Jocasta", "Leander", "Marigold", "Phineas", "Rosalind", "Septimus", "Tabitha", "Winifred", "Zachariah", "Clementine",
         "Ambrose", "Drusilla"),
        ("Adelheid", "Balthasar", "Cosima", "Dietlinde", "Eberhard", "Friederike", "Gottfried", "Hedwig", "Irmgard", "Kunibert", "Leopoldine",
         "Meinhard", "Ottilie", "Quirin", "Roswitha", "Sieglinde", "Thaddäus", "Ulrike", "Valentin", "Walburga", "Zacharias", "Burkhard", "Gundula",
         "Wendelin"),
        ("Apolline", "Barthélemy", "Cunégonde", "Donatien", "Eulalie", "Firmin", "Gaspard", "Hippolyte", "Isaure", "Judicaël", "Léopoldine",
         "Mélisande", "Octave", "Philomène", "Quentin", "Rosalie", "Séverin", "Théophile", "Ursuline", "Victorin", "Zéphyrine", "Ambroise", "Clotilde",
         "Gontran"),
    ),
)  # fmt: skip

FAMILY = _table(
    (
        "Walker Hughes Carter Bennett Parker Collins Fletcher Morgan Turner Harrison Phillips Cooper Richardson Bailey Thompson Mitchell Shepherd "
        "Griffiths Watson Matthews Chapman Lawrence Stevens Barker Whitehead Gallagher Robertson Armstrong Schofield Nicholson Holloway Pritchard "
        "Thackeray Cartwright O'Keeffe Macpherson",
        "Schneider Hoffmann Becker Wagner Schulz Krüger Zimmermann Hartmann Lehmann Schäfer Köhler Brandt Vogt Pfeiffer Ziegler Kaufmann Böttcher "
        "Schreiber Dietrich Kühn Eckert Sommer Winkler Stein Jäger Schubert Haas Schiller Reinhardt Bergmann Thoma Ullrich Hauser Wyss Ackermann Zürcher",
        "Moreau Lambert Fontaine Rousseau Girard Chevalier Mercier Gauthier Perrin Marchand Lefèvre Bonnet Garnier Renaud Picard Barbier Lemaître "
        "Charpentier Boucher Fournier Delacroix Vasseur Guérin Rivière Carpentier Leclerc Poirier Besson Thibault Jacquet Maillard Pelletier Bouvier "
        "Joubert Aubert Collet",
    ),
    (
        _joined("Ash Brack Clay Cran Dray Elm Fair Green Hart Haw Holl Lang Marsh Nor Pem Rad Stan Thorn Under Wad West Whit",
                "bury combe croft dale field ham hurst ley shaw stead ton wick"),
        _joined("Alt Birken Brand Dorn Eich Fels Grün Hagen Kalt Linden Ober Rosen Sand Stein Tann Wald Weiß Winter",
                "bach bichler brink dorfer eder felder hofer holz kamp meier rieder stätter"),
        _joined("Beau Bel Bois Chante Clair Font Grand Haut Mont Pierre Roche Val", "bert blanc castel champ court lieu merle pré rive val vert ville"),
    ),
)  # fmt: skip


def _streets(words: str, kinds: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """(in full, abbreviated): {} is the word's place; the words in the order of how common they are."""
    return tuple((full.format(word), short.format(word)) for word in words.split() for full, short in kinds.items())


_STREETS = (
    _streets("Church Park Mill Station Maple Garden Hill Orchard Willow Bridge Meadow Harbour Chestnut Quarry Larch Foundry Heron Saddler Tanner Wheelwright",
             {"{} Street": "{} St", "{} Road": "{} Rd", "{} Avenue": "{} Ave", "{} Lane": "{} Ln"}),
    _streets("Bahnhof Schul Garten Linden Kirch Wiesen Berg Rosen Mühlen Birken Brunnen Kloster Färber Schmiede Ziegel Amsel Weber Hafen Kastanien Gerber",
             {"{}straße": "{}str.", "{}platz": "{}pl.", "{}gasse": "{}g."}),
    _streets("Moulin Château Marché Tilleul Verger Rempart Jardin Lavoir Puits Colombier Tanneur Rossignol Peuplier Forgeron Chapelier Vannier Pressoir",
             {"rue du {}": "r. du {}", "avenue du {}": "av. du {}", "place du {}": "pl. du {}"}),
)  # fmt: skip
STREETS = tuple(full for pairs in _STREETS for full, _ in pairs)
SHORT_STREETS = {full: short for pairs in _STREETS for full, short in pairs}
_counts = [len(pairs) for pairs in _STREETS]
STREET_STARTS = (0, _counts[0], _counts[0] + _counts[1])
STREET_WEIGHTS = tuple(1.0 / (np.arange(count) // 3 + 4) for count in _counts)

# town, its streets' language, how its postal codes are written: d is a digit and A a letter that the street decides
TOWNS: tuple[tuple[str, int, str], ...] = (
    ("Boston", ENGLISH, "021dd"), ("Austin", ENGLISH, "787dd"), ("Portland", ENGLISH, "972dd"), ("Chicago", ENGLISH, "606dd"), ("Leeds",
         ENGLISH, "LSd dAA"),
    ("Basel", GERMAN, "40dd"), ("Leipzig", GERMAN, "04ddd"), ("Nantes", FRENCH, "44ddd"), ("Toronto", ENGLISH, "MdA dAd"), ("Denver", ENGLISH, "802dd"),
    ("Oakland", ENGLISH, "946dd"), ("Fresno", ENGLISH, "937dd"), ("San Diego", ENGLISH, "921dd"),
)  # fmt: skip
FIRST_CALIFORNIAN = 10

NICKNAMES = {
    "Thomas": "Tom", "Daniel": "Danny", "William": "Bill", "Michael": "Mike", "James": "Jim", "Robert": "Bob", "Edward": "Ted", "Megan": "Meg",
    "Christopher": "Chris", "Andrew": "Andy", "Katherine": "Kate", "Samuel": "Sam", "Charlotte": "Lotte", "Benjamin": "Ben", "Rebecca": "Becky",
    "Joseph": "Joe",
    "Elizabeth": "Betty", "Oliver": "Ollie", "Victoria": "Vicky", "Matthew": "Matt", "Abigail": "Abby", "Henry": "Harry", "Jonathan": "Jon",
    "Margaret": "Peggy",
    "Patrick": "Paddy", "Nicholas": "Nick", "Susan": "Sue", "Gregory": "Greg", "Patricia": "Pat", "Timothy": "Tim", "Lukas": "Luki", "Maximilian": "Max",
    "Katharina": "Kathi", "Sebastian": "Basti", "Elisabeth": "Lisa", "Alexander": "Alex", "Theresa": "Resi", "Wolfgang": "Wolfi", "Ursula": "Uschi",
    "Johannes": "Hans", "Barbara": "Babsi", "Heinrich": "Heinz", "Friedrich": "Fritz", "Franziska": "Franzi", "Johanna": "Hanna", "Matthias": "Matze",
    "Nicolas": "Nico", "Antoine": "Toine", "Guillaume": "Guigui", "Catherine": "Cathy", "Isabelle": "Isa", "Alexandre": "Alex", "Caroline": "Caro",
    "Philippe": "Phil", "Geneviève": "Gigi", "Frédéric": "Fred", "Philippa": "Pippa", "Rosalind": "Roz", "Tabitha": "Tabby", "Winifred": "Winnie",
    "Zachariah": "Zach", "Clementine": "Clemmie", "Friederike": "Rike", "Leopoldine": "Poldi", "Ottilie": "Otti", "Valentin": "Valli", "Théophile": "Théo",
    "Philomène": "Filou", "Rosalie": "Rosie", "Ambroise": "Ambro",
}  # fmt: skip
