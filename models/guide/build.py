"""Builds the guide model from its corpus.

python models/guide/build.py                  train from the beginning (about an hour on two cores) and export
python models/guide/build.py --again 10       go on for ten minutes, after a change of the corpus
python models/guide/build.py --export         export the last checkpoint
python models/guide/build.py --check          say whether settings or README have changed since the guide was trained
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

HERE = Path(__file__).parent
WORK = HERE / "work"


def main() -> int:
    """Reads the command line and does what it says."""
    parser = argparse.ArgumentParser(description="Build the guide model.")
    parser.add_argument("--minutes", type=float, default=62, help="time for training from the beginning")
    parser.add_argument("--again", type=float, metavar="MINUTES", help="go on from the last checkpoint")
    parser.add_argument(
        "--held-back", type=float, default=0.0, help="share of the seeds kept out of training and measured"
    )
    parser.add_argument("--rate", type=float, default=1.0, help="multiplies the learning rates")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--word-examples", type=int, default=300_000, help="questions for the first word vectors")
    parser.add_argument("--folder", type=Path, default=WORK, help="where checkpoints go")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a step")
    parser.add_argument("--export", action="store_true", help="export the last checkpoint")
    parser.add_argument("--no-export", action="store_true", help="train only")
    parser.add_argument("--check", action="store_true", help="compare what was taught with what is")
    args = parser.parse_args()

    from models.guide import taught

    if args.check:
        changes = taught.changes()
        print("\n".join(changes) or "The guide knows the settings and README as they are.")
        return 1 if changes else 0
    if not args.export:
        train(args)
    if not args.no_export:
        from models.guide import export

        for line in export.export(args.folder / "checkpoint.pt", args.folder / "tokenizer.json", HERE):
            print(line)
        taught.write()
    return 0


def train(args: argparse.Namespace) -> None:
    """Trains and leaves ``checkpoint.pt``, ``tokenizer.json`` and ``history.json`` in the folder."""
    import torch

    from models.guide import taught, training, vocabulary, words
    from models.guide.answering import share_right
    from models.guide.batches import Batches
    from models.guide.dialogues import Dialogues
    from models.guide.network import Network, Shape

    def say(line: str) -> None:
        print(line, flush=True)

    torch.set_num_threads(args.threads)
    args.folder.mkdir(parents=True, exist_ok=True)
    checkpoint, tokenizer_path, history_path = (
        args.folder / name for name in ("checkpoint.pt", "tokenizer.json", "history.json")
    )
    dialogues = Dialogues(args.held_back)
    documents = taught.documents() + dialogues.sentences()
    seed = int(time.time()) % 100_000
    torch.manual_seed(seed)
    if args.again:
        from models.guide import export

        stored = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else export.stored(HERE)
        if not tokenizer_path.exists():
            shutil.copyfile(HERE / "tokenizer.json", tokenizer_path)
        network = Network(Shape(**stored["shape"]))
        network.load_state_dict(stored["newest"])
        history = json.loads(history_path.read_text("utf-8")) if history_path.exists() else []
    else:
        rng = random.Random(seed)
        texts = (text for _ in range(30_000) for turn in dialogues.draw(rng).turns for text in turn)
        vocabulary.train([*texts, *documents * 20], Shape().vocabulary).save(str(tokenizer_path))
        network = Network(Shape())
        sizes = (Shape().vocabulary, Shape().hidden)
        made = words.vectors(dialogues, vocabulary.Encoder(tokenizer_path), sizes, args.word_examples, say)
        network.embed_tokens.weight.data.add_(made)
        history = []
    encoder = vocabulary.Encoder(tokenizer_path)
    print(
        f"{sum(weight.numel() for weight in network.parameters()):,} parameters, {len(dialogues.intents)} intents",
        flush=True,
    )
    batches = Batches(dialogues, encoder, documents, seed)
    if args.again:
        batches.turning_point = 0.3
    rate = args.rate * (0.5 if args.again else 1.0)
    plan = training.Plan(
        minutes=args.again or args.minutes,
        tokens=args.tokens,
        muon_rate=0.02 * rate,
        adam_rate=0.001 * rate,
        dropout=args.dropout,
    )
    history.append(training.train(network, batches, plan, args.folder, say))
    history_path.write_text(json.dumps(history, indent=1), "utf-8")
    if args.held_back:
        stored = torch.load(checkpoint, weights_only=True)
        for kind in ("newest", "average"):
            network.load_state_dict(stored[kind])
            share, wrong = share_right(network, encoder, dialogues.held_back_questions())
            print(f"{kind}: {share:.1%} of the held back questions right", flush=True)
        for name, question, answer in wrong:
            print(f"  [{name}] {question} -> {answer}")


if __name__ == "__main__":
    raise SystemExit(main())
