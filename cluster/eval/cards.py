"""Writes the cards of the models in Models/ from what `make eval` has measured: cards.py EVAL MODELS RUNS.

EVAL has a file of JSON lines for each set of pictures, MODELS the models, RUNS what `cluster/train/models.sh` has left; a card
is written for each set and split.
"""

import hashlib
import json
import pathlib
import struct
import sys
import textwrap

SETS = {
    "tmri": {
        "title": "brain tumour MRI",
        "picture": "magnetic-resonance picture of a head",
        "source": (
            "Brain Tumor MRI data set (Nickparvar; Figshare, SARTAJ and Br35H), 5,604 grey pictures scaled to 128 x 128, "
            "exact duplicates removed. The repository that they were taken from states no licence; others state CC0 for "
            "the same data set."
        ),
        "group": (
            "Near-duplicate pictures form a group, and no group stands on both sides. The data set does not identify "
            "patients, so different slices of one patient may still do."
        ),
        "limits": "1,347 of the distinct `notumor` pictures have an upside-down twin.",
    },
    "amri": {
        "title": "Alzheimer MRI",
        "picture": "magnetic-resonance slice of a brain",
        "source": (
            "Alzheimer MRI data set of four classes, 5,472 of its 6,400 grey slices, fitted into 128 x 128. One repository "
            "that holds the same pictures states the Open Database License, the one that they were taken from none."
        ),
        "group": "No subject stands on both sides.",
        "limits": (
            "`ModerateDemented` is two people, one on each side of the group split: nothing about that class can be learned "
            "from it."
        ),
    },
    "kct": {
        "title": "kidney CT",
        "picture": "slice of a computed tomography of the abdomen",
        "source": (
            "CT KIDNEY data set (Islam et al., 2022), 4,589 of its 12,446 grey slices, scaled to 128 x 128, exact duplicates "
            "removed. The repositories that they were taken from state no licence; another states CC BY 4.0 for the same data set."
        ),
        "group": "No series of consecutive slices stands on both sides; there are 73 of them to learn from and 14 to ask for.",
        "limits": "Left and right were never exchanged in training. A class has as few as two series among the queries of the group split.",
    },
}
SPLITS = {
    "group": "the group split: {group}",
    "random": (
        "the random split, as in the paper: pictures are shuffled and divided 80 to 20. **It leaks**: neighbouring slices of "
        "one person stand on both sides, and figures say mostly that a network can learn those by heart. Read them beside "
        "what pixels alone find, and beside those of the group split."
    ),
}


STAGES = {"clean": "before adversarial training", "adversarial": "after adversarial training"}


def metadata(path):
    """The metadata of a safetensors file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 1 << 20:
            raise SystemExit(f"{path}: a header of {length} bytes")
        return json.loads(file.read(length))["__metadata__"]


def check(name, rows, models):
    """Ends with a reason unless the rows are all that a card says: of these files, of their split, attacked in full."""
    set_name, split = name.split("-")
    lengths = {}
    for stage in STAGES:
        path = models / f"{name}-{stage}.safetensors"
        if not path.exists():
            raise SystemExit(f"{path} is not there")
        about = metadata(path)
        if about.get("dataset") != set_name or about.get("protocol") != split or about.get("stage") != stage:
            raise SystemExit(f"{path} is of {about.get('dataset')}, {about.get('protocol')} split, {about.get('stage')} training")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        own = [row for row in rows if row["stage"] == stage]
        if not own or any(row["model_sha256"] != digest for row in own):
            raise SystemExit(f"{path} is not what was measured as {name}, {stage}")
        lengths[stage] = sorted(row["bits"] for row in own)
        if lengths[stage] != sorted(json.loads(about.get("heads", "null")) or [json.loads(about["config"])["bits"]]):
            raise SystemExit(f"{path}: lengths {lengths[stage]} were measured, there are others")
    for row in rows:
        attack = (row.get("attack_steps"), round(255 * row.get("attack_radius", 0), 3), row.get("attacked_queries"))
        if row["dataset"] != set_name or attack != (100, 8, row["queries"]):
            raise SystemExit(f"{name}: attacked with (steps, radius, queries) {attack} of {row['queries']}, on {row['dataset']}")
        if row["remarks"] and not all("taken as it is" in remark for remark in row["remarks"]):
            raise SystemExit(f"{name}: {row['remarks']}")


def number(value):
    return "-" if value is None else f"{value:.3f}"


def hours(run):
    """How long a training took, by its log."""
    last = (run / "log.jsonl").read_text().splitlines()[-1]
    return json.loads(last)["seconds"] / 3600


def beginning(training):
    """The file whose parameters a training began with."""
    words = training.split()
    return pathlib.Path(words[words.index("--init") + 1]) if "--init" in words else None


def begun(training, runs):
    """What a training began with, in words."""
    begin = beginning(training)
    if begin is None:
        return "from scratch"
    run = runs / begin.stem
    took = f", which took {hours(run):.1f} hours itself" if run.is_dir() else ""
    return f"from the parameters of `{begin.name}`{took}"


def trainings(name, models, runs):
    """The lines that say how the models of both stages were trained, by one training or by two."""
    if (runs / name).is_dir():
        what = {"Both of them in one": (models / f"{name}-adversarial.safetensors", runs / name)}
    else:
        what = {
            f"The one {when}": (models / f"{name}-{stage}.safetensors", runs / f"{name}-{stage}")
            for stage, when in STAGES.items()
        }
    shown = {path.name for path, _ in what.values()}
    for who, (path, run) in what.items():
        command = metadata(path)["training"]
        yield textwrap.fill(f"{who}: {begun(command, runs)}, one seed, {hours(run):.1f} hours on one core.", 120)
        yield from ("", "```", f"sfmedir model train {command}", "```", "")
        begin = beginning(command)
        if begin is not None and begin.name not in shown and (runs / begin.name).exists():
            shown.add(begin.name)
            first = metadata(runs / begin.name)["training"]
            yield from (f"`{begin.name}`, {begun(first, runs)}:", "", "```", f"sfmedir model train {first}", "```", "")


def card(name, rows, models, runs):
    set_name, split = name.split("-")
    about = SETS[set_name]
    first = metadata(models / f"{name}-adversarial.safetensors")
    classes = ", ".join(json.loads(first["classes"]))
    config = json.loads(first["config"])
    side = first["input_side"]
    lines = [
        f"# Model card: {about['title']}, {split} split",
        "",
        f"ConvNeXt networks that turn a grey {about['picture']} into a hash code, so that pictures of the same class lie close in",
        'Hamming distance; one trained on clean pictures, one hardened against adversarial queries. "Training" says what each began with.',
        "",
        "**Research use only. This is not a medical device, and its results are no diagnosis.**",
        "",
        "| | |",
        "|---|---|",
    ]
    for stage, what in STAGES.items():
        path = models / f"{name}-{stage}.safetensors"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(
            f"| `{path.name}` | {what}; {path.stat().st_size / 1e6:.1f} MB, sha256 `{digest[:16]}` |"
        )
    depths, dims = (", ".join(str(n) for n in config[key]) for key in ("depths", "dims"))
    bits = sorted({row["bits"] for row in rows})
    lines += [
        f"| Architecture | ConvNeXt, 1 channel, depths {depths}, dims {dims}; a linear head for each length of code: "
        f"{', '.join(str(b) for b in bits)} bits |",
        f"| Input | grey picture fitted into {side} x {side} (aspect kept, black around it), from 0 to 1; the network itself "
        "does (x - 0.5) / 0.25 |",
        "| Output | bit k of a code is 1 where output k is not negative |",
        f"| Classes | {classes} |",
        "| Format | safetensors with timm's names of a ConvNeXt's tensors |",
        "",
        "## Data and protocol",
        textwrap.fill(about["source"], 120),
        "",
        textwrap.fill("Trained on the train pictures of " + SPLITS[split].format(group=about["group"]), 120),
        "",
        "## Training",
        "`cluster/train/models.sh` runs the commands.",
        "",
        *trainings(name, models, runs),
        "## Figures",
        f"Queries: the {rows[0]['queries']:,} test pictures. Database: the {rows[0]['database']:,} train pictures. mAP@100 divided by hits, in",
        "brackets as information retrieval divides. Attacks change every query by 8/255 at most, in 100 steps, with full knowledge of the",
        "network: towards the code of another class, and away from the code of its own. Measured by `make eval`.",
        "",
        "| training | bits | clean | targeted attack, true label | attacker's label | attack away |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(rows, key=lambda row: (row["stage"] != "clean", row["bits"])):

        def both(key):
            return f"{number(row.get(key))} ({number(row.get(key + '_retrieval'))})"

        lines.append(
            f"| {row['stage']} | {row['bits']} | {both('map_at_100')} | {both('adversarial_map_at_100')} "
            f"| {number(row.get('targeted_map_at_100'))} | {number(row.get('nontargeted_map_at_100'))} |"
        )
    row = rows[0]
    lines += [
        "",
        f"Beside that: pixels alone, with nothing learned, find {number(row.get('pixel_map_at_100'))} (mAP@100), and the nearest picture is of the",
        f"query's class for {number(row.get('pixel_accuracy'))} of the queries; chance finds {number(row.get('shuffled_map_at_100'))}.",
        "",
        "## Intended use",
        "Retrieval experiments with SFMedIR, and comparisons with other hashing networks on the same splits.",
        "",
        "## Limits",
        f"- {about['limits']}",
        "- Settings of the trainings were chosen by looking at these same test pictures: there is no third part.",
        "- One seed. Codes of one class mostly coincide: within a class nothing is ranked.",
        "- Attacks other than these, or with more steps, may do better.",
        "- Pictures from other scanners, sequences or body parts get a code too, and it means nothing. Nothing warns of it.",
        "- Codes reveal the class: whoever sees codes, masked or not, sees which pictures cluster. That is what they are for.",
        "",
    ]
    return "\n".join(lines)


def main():
    if len(sys.argv) != 4:
        raise SystemExit("cards.py EVAL MODELS RUNS")
    measured, models, runs = (pathlib.Path(argument) for argument in sys.argv[1:])
    if not any((measured / f"{set_name}.json").exists() for set_name in SETS):
        raise SystemExit(f"{measured} has no figures: 'make eval' makes them")
    for set_name in SETS:
        path = measured / f"{set_name}.json"
        if not path.exists():
            print(f"{path} is not there: no cards of {set_name}", file=sys.stderr)
            continue
        try:
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            splits = {row["protocol"] for row in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path}: these are no figures of 'sfmedir model eval' ({error!r})")
        if not rows:
            raise SystemExit(f"{path} is empty")
        for split in SPLITS:
            name = f"{set_name}-{split}"
            own = [row for row in rows if row["protocol"] == split]
            if split in splits:
                check(name, own, models)
                (models / f"{name}.md").write_text(card(name, own, models, runs))
                print(models / f"{name}.md")


if __name__ == "__main__":
    main()
