"""The mutants of `.ci/mutants`, which runs this: plants them, and runs the models that concern each.

A mutant is a file, a text that occurs once in it, in which `[[...]]` is what is replaced, and what
takes its place; or several of both. `models` are parts of tests' names, tried in this order until
one fails. A mutant that no model can catch says why in `equivalent`. Those of zcache stand in
`mutants_zcache.py`.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import mutants_zcache


class Mutant(NamedTuple):
    number: int
    what: str
    file: str
    text: str | tuple
    new: str | tuple
    models: tuple
    equivalent: str = ""


FRAMES = ("retiring::", "framing::", "frame::models::")
WORD = ("handle::models::ending::", "handle::models::sharing::", "handle::models::exclusive::",
        "models::sharing::", "models::moving::")
TOKENS = ("handle::models::tokens::", "models::sharing::", "models::moving::")
SLOTS = ("handle::models::slots::", "handle::models::chunks::", "handle::models::tokens::")
POOL = ("placing::", "models::sharing::", "models::moving::")
MOVING = ("models::moving::", "models::renumbering::", "placing::")
GROWTH = ("handle::models::slots::", "placing::", "framing::")

RELAXED = "Ordering::Relaxed"

MUTANTS = [
    # Frames.
    Mutant(1, "counters seen at zero count for the next batch", "frame/retired.rs",
           "[[sealed.seen.fill([model_bug!(FrameSeenBefore); 2]);]]", "", FRAMES),
    Mutant(2, "`retire` without Release", "frame/retired.rs",
           "[[model_bug!(FrameRetireRelaxed, Ordering::Release => Ordering::Relaxed)]]", RELAXED, FRAMES),
    Mutant(3, "`collect` without Acquire", "frame/retired.rs",
           "[[model_bug!(FrameCollectRelaxed, Ordering::Acquire => Ordering::Relaxed)]]", RELAXED, FRAMES),
    Mutant(4, "a look at a counter without Release", "frame/retired.rs",
           "[[counter.fetch_add(0, order)]] == 0", "counter.fetch_add(0, Ordering::Acquire)", FRAMES),
    Mutant(5, "a look at a counter without Acquire", "frame/retired.rs",
           "[[counter.fetch_add(0, order)]] == 0", "counter.fetch_add(0, Ordering::Release)", FRAMES),
    Mutant(78, "a look at a counter by a load", "frame/retired.rs",
           "[[counter.fetch_add(0, order)]] == 0", "counter.load(Ordering::Acquire)", FRAMES),
    Mutant(6, "a frame is found without Acquire", "frame/mod.rs",
           "[[model_bug!(FrameFindRelaxed, Ordering::Acquire => Ordering::Relaxed)]]", RELAXED, FRAMES),
    Mutant(7, "`put` without Acquire", "frame/mod.rs",
           "place.swap(frame, [[model_bug!(FramePutUnacquired, order => Ordering::Release)]])",
           "Ordering::Release", FRAMES),
    Mutant(46, "`put` without Release", "frame/mod.rs",
           "place.swap(frame, [[model_bug!(FramePutUnacquired, order => Ordering::Release)]])",
           "Ordering::Acquire", FRAMES),
    Mutant(8, "the counters that newcomers take are not looked at", "frame/retired.rs",
           "for (counter, seen) in pair.iter().zip(seen) {[[]]",
           "if std::ptr::eq(counter, &pair[self.phase.load(Ordering::Relaxed) & 1]) { *seen = true; }", FRAMES),
    Mutant(9, "one pair of counters is looked at", "frame/retired.rs",
           "if model_bug!(FrameFirstPairOnly) { 1 } else { [[self.readers.len()]] }", "1", FRAMES),
    Mutant(22, "`clear_if` takes off whatever is there", "frame/mod.rs",
           "match [[model_bug!(FrameClearedUnasked)]] {", "true", FRAMES),
    Mutant(47, "`clear_if` without Acquire", "frame/mod.rs",
           "let order = ([[Ordering::Acquire]], Ordering::Relaxed);", RELAXED, FRAMES,
           "it takes off the frame that it has found, with Acquire, in this same reading"),
    Mutant(24, "`put` counts the frame when it is in its slot", "frame/mod.rs",
           "let (cost, late) = (frame.cost(), [[model_bug!(FrameEnterLate)]]);", "true", FRAMES),
    Mutant(45, "`retire` counts the frame when it is on the list", "frame/retired.rs",
           "let (cost, late) = (frame.cost(), [[model_bug!(FrameLeaveLate)]]);", "true", FRAMES),
    Mutant(74, "newcomers take the same counters when a batch is sealed", "frame/retired.rs",
           "sealed.seen.fill([model_bug!(FrameSeenBefore); 2]);\n                    [[self.phase.fetch_add(1, Ordering::Relaxed);]]",
           "", FRAMES, "readers take either counter: it decides how soon one comes to zero"),
    Mutant(75, "newcomers keep to the counters that were not seen yet", "frame/retired.rs",
           "if sealed.seen.iter().all(|pair| pair[1 - taken]) {\n            [[self.phase.fetch_add(1, Ordering::Relaxed);]]",
           "", FRAMES, "readers take either counter: it decides how soon one comes to zero"),
    Mutant(76, "a reader is counted in without Acquire", "frame/mod.rs",
           "[[model_bug!(FrameEnterRelaxed, Ordering::Acquire => Ordering::Relaxed)]]", RELAXED, FRAMES),
    Mutant(77, "a reader is counted out without Release", "frame/mod.rs",
           "[[model_bug!(FrameLeaveRelaxed, Ordering::Release => Ordering::Relaxed)]]", RELAXED, FRAMES),
    Mutant(85, "`retire` overwrites the head of the list", "frame/retired.rs",
           "match [[self.retired.compare_exchange_weak(head, old, order.0, order.1)]] {",
           "{ self.retired.store(old, order.0); Ok::<_, *mut Frame<H>>(old) }", FRAMES),
    Mutant(88, "a collection waits for another one", "frame/retired.rs",
           "let waits = [[model_bug!(CollectWaits)]]", "true", ("frame::models::",) + FRAMES),
    Mutant(48, "a holder of bytes leaves without Release", "frame/held.rs",
           "let order = [[model_bug!(HolderLeaveUnreleased, order => Ordering::Acquire)]];", "Ordering::Acquire", FRAMES),
    Mutant(49, "the last holder of bytes ends them without Acquire", "frame/held.rs",
           "let order = [[model_bug!(HolderLeaveUnreleased, order => Ordering::Acquire)]];", "Ordering::Release", FRAMES),
    # The word.
    Mutant(10, "`free` without Release", "word.rs",
           "let order = [[model_bug!(FreeUnreleased, order => Ordering::Acquire)]];", "Ordering::Acquire", WORD),
    Mutant(11, "`free` without Acquire", "word.rs",
           "let order = [[model_bug!(FreeUnreleased, order => Ordering::Acquire)]];", "Ordering::Release", WORD),
    Mutant(12, "`swing` without Acquire", "word.rs",
           "let order = [[model_bug!(SwingUnreleased, order => Ordering::Acquire)]];", "Ordering::Release", WORD),
    Mutant(50, "`swing` without Release", "word.rs",
           "let order = [[model_bug!(SwingUnreleased, order => Ordering::Acquire)]];", "Ordering::Acquire", WORD),
    Mutant(16, "`unlock` of a freed object without Acquire", "word.rs",
           "if [[!model_bug!(UnlockUnfenced)]] {", "false", WORD),
    Mutant(51, "the last unpin without Acquire", "word.rs",
           "if [[!model_bug!(LastUnpinUnfenced)]] {", "false", WORD),
    Mutant(52, "`unpin` of a freed object that others hold ends it", "word.rs",
           "if [[live(seen) || pins(seen) != 1]] {", "live(seen)", WORD),
    Mutant(53, "a migration pins an object that another thread holds", "word.rs",
           "if [[pins(seen) != 0]] {\n            return None;", "false", WORD),
    Mutant(54, "a migration pins without Acquire", "word.rs",
           "// Acquire as in `pin`: the copy reads bytes.\n        let order = [[model_bug!(PinRelaxed, Ordering::Acquire => Ordering::Relaxed)]];",
           RELAXED, WORD),
    Mutant(55, "`publish` without Release", "word.rs",
           "[[model_bug!(PublishRelaxed, Ordering::Release => Ordering::Relaxed)]]", RELAXED, WORD),
    Mutant(56, "`lock` without Acquire", "word.rs",
           "[[model_bug!(LockRelaxed, Ordering::Acquire => Ordering::Relaxed)]]", RELAXED, WORD),
    Mutant(92, "`lock` does not look at the generation", "word.rs",
           "if [[generation(seen) != wanted]] {\n                return Err(Refusal::Stale);\n            }\n            if pins(seen)",
           "false", WORD + ("handle::models::tokens::",)),
    Mutant(93, "`pin` takes any object that is live", "word.rs",
           "self.pin_if(|seen| [[generation(seen) == wanted]], MAX_PINS)", "live(seen)", WORD + SLOTS),
    Mutant(96, "a migration pins a place whose object is dead", "word.rs",
           "if [[!live(seen)]] || location", "false", WORD),
    Mutant(99, "a migration pins an object that is elsewhere", "word.rs",
           "|| [[location(seen) != expected]] &&", "false", ("models::moving::",) + WORD),
    Mutant(57, "a glance at a location without Acquire", "word.rs",
           "let seen = self.0.load([[Ordering::Acquire]]);", RELAXED, POOL,
           "for prefetching: loom has no memory whose address could be seen too early"),
    # Tokens, slots of handles and their memory.
    Mutant(17, "the length is noted when the word is unlocked", "handle/token.rs",
           ("[[table.slots.set_len(index, len);]]", "let mut ended = [[table.let_go(slot, index, outcome)]];"),
           ("", "{ table.slots.set_len(index, len); table.let_go(slot, index, outcome) }"), TOKENS),
    Mutant(36, "the length is noted when the word is published", "handle/token.rs",
           "let late = [[model_bug!(LengthLate)]];", "true", TOKENS),
    Mutant(25, "a chunk closes with a slot in use", "numbers.rs",
           "if chunk.inuse > [[early]] {", "1", SLOTS),
    Mutant(58, "the only slot is taken though others came back", "handle/free.rs",
           "if [[head >> 32 != 1]] ||", "false", SLOTS),
    Mutant(59, "a slot whose generations are used up is taken", "handle/free.rs",
           "let retired = [[slot.word.linked().1 & RETIRED != 0]];", "false", SLOTS),
    Mutant(60, "the only slot is taken though a lower one is free", "handle/free.rs",
           "index >= numbers.floor() && [[!model_bug!(TakeOnlyHigher)]];", "false", SLOTS),
    Mutant(61, "`push` without Release", "handle/free.rs",
           "[[model_bug!(PushRelaxed, Ordering::Release => Ordering::Relaxed)]]", RELAXED, SLOTS),
    Mutant(62, "slots are taken in by a load and a store", "handle/free.rs",
           "let mut rest = [[self.back.swap(0, order)]] as u32;",
           "{ let head = self.back.load(order); self.back.store(0, Ordering::Relaxed); head }", SLOTS),
    Mutant(63, "a slot of a chunk that comes back starts at generation 0", "handle/free.rs",
           "[[slot.word.start_at(start.into());]]", "", SLOTS),
    Mutant(89, "a slot that comes back waits for a lock", "handle/free.rs",
           "let waits = [[model_bug!(RecycleWaits)]]", "true", SLOTS),
    Mutant(90, "the word of a slot that is used up keeps its link", "handle/free.rs",
           "[[word.wipe();]]", "", SLOTS,
           "its generation is 0, which no handle names, and it is on no list whose links are followed"),
    Mutant(94, "of two that grow both do", "mapped/doubling.rs",
           "let before = if [[model_bug!(SlotsGrownOver)]] { wanted }", "true", ("framing::growth",) + GROWTH),
    Mutant(64, "an element is found without Acquire", "mapped/mod.rs",
           "index as usize >= self.reach.load([[Ordering::Acquire]])", RELAXED, GROWTH),
    Mutant(65, "the slots of frames are counted without Acquire", "mapped/doubling.rs",
           "self.count.load([[Ordering::Acquire]])", RELAXED, GROWTH),
    Mutant(66, "the slots of frames are removed without Release", "mapped/doubling.rs",
           "self.count.store(count / 2, [[Ordering::Release]]);", RELAXED, GROWTH,
           "a reader that finds fewer slots than there were reads nothing that was written for it"),
    Mutant(67, "an element of a run is found without Acquire", "mapped/run.rs",
           "index >= self.reach.load([[Ordering::Acquire]])", RELAXED, GROWTH,
           "models have no mapped runs; what the system maps is there for all threads at once"),
    Mutant(68, "a run grows without Release", "mapped/run.rs",
           "self.reach.store(end, [[Ordering::Release]]);", RELAXED, GROWTH, "as 67"),
    # Zspages, classes and the arena.
    Mutant(13, "what is pending is taken in without Acquire", "zspage/mod.rs",
           "next = [[head.swap(0, Ordering::Acquire)]];", "head.swap(0, Ordering::Relaxed)", POOL),
    Mutant(69, "what is pending is taken in by a load and a store", "zspage/mod.rs",
           "next = [[head.swap(0, Ordering::Acquire)]];",
           "{ let newest = head.load(Ordering::Acquire); head.store(0, Ordering::Relaxed); newest }", POOL),
    Mutant(91, "the link of a suspended object is not set", "zspage/mod.rs",
           "[[link.store(newest, Ordering::Relaxed);]]", "", POOL),
    Mutant(95, "no thread looks for objects that wait in a class that seems full", "arena.rs",
           "if class.has_room() || [[self.zspages.has_pending(number)]]", "false", POOL,
           "a hint: the class that grows, and a thread that tidies, take in what waits"),
    Mutant(97, "free slots of a zspage that a compaction could not empty are not counted", "class.rs",
           "let room = [[state.room + usize::from(objects - inuse)]];", "state.room", MOVING),
    Mutant(98, "the pages of a zspage that a free empties stay taken", "class.rs",
           "on.table.recycle(slot, on.ledger);\n        }\n        [[self.sweep(&mut state, on);]]", "", POOL,
           "the next holder of the lock gives them back"),
    Mutant(70, "an object is suspended without Release", "zspage/mod.rs",
           "[[model_bug!(SuspendRelaxed, Ordering::Release => Ordering::Relaxed)]]", RELAXED, POOL),
    Mutant(71, "a reader tells of what it left without Release", "arena.rs",
           "[[self.untidy\n                    .swap(1, model_bug!(UntidyRelaxed, Ordering::Release => Ordering::Relaxed));]]",
           "self.untidy.swap(1, Ordering::Relaxed);", ("placing::whoever",) + POOL),
    Mutant(72, "a thread that tidies does so without Acquire", "arena.rs",
           "[[model_bug!(TidyRelaxed, Ordering::Acquire => Ordering::Relaxed)]]", RELAXED, ("placing::whoever",) + POOL),
    Mutant(73, "a reader tells of what it left by a store", "arena.rs",
           "if [[model_bug!(UntidyStored)]] {", "true", ("placing::whoever",) + POOL),
    Mutant(79, "a reader tells no thread of what it left", "arena.rs",
           "[[self.untidy\n                    .swap(1, model_bug!(UntidyRelaxed, Ordering::Release => Ordering::Relaxed));]]", "", ("placing::whoever",) + POOL),
    Mutant(44, "a reader waits for the lock of a class", "class.rs",
           "let waits = [[model_bug!(EndWaits)]];", "true", ("placing::a_reader",) + POOL),
    Mutant(80, "the holder of a lock does not take in what is pending", "class.rs",
           "let mut state = self.state.lock();\n        [[self.take_in(&mut state, on);]]\n        state", "", POOL),
    Mutant(81, "a place for an object that cannot be moved is lost", "class.rs",
           "None => [[self.give(&mut state, on, on.zspages.home(to))]],", "", MOVING),
    Mutant(82, "an owner entry is believed", "class.rs",
           "if [[!on.table.points(owner, location)]] &&", "false", ("moving::",) + MOVING,
           "the pin that follows asks again"),
    Mutant(83, "two compactions of a class", "class.rs",
           "&& [[!model_bug!(TwoMovers)]]", "false", ("moving::",) + MOVING),
    Mutant(110, "a class is noted for compactions by a load and a store", "ripe.rs",
           "if [[model_bug!(RipeStored)]] {", "true", ("placing::classes",) + POOL),
    Mutant(87, "a pool that is dropped keeps its pages", "arena.rs",
           "if shared && [[!model_bug!(VacateForgotten)]] {", "false", ("retiring::frames_are",) + FRAMES),
    Mutant(84, "an address is announced before its region", "source/heap.rs",
           "slot.store(base, [[Ordering::Release]]);", RELAXED, POOL,
           "a page is handed out under the source's lock, and by a word's Release, before it is looked for"),
    Mutant(86, "an address is found without Acquire", "source/heap.rs",
           "NonNull::new(slot.load([[Ordering::Acquire]]))", RELAXED, POOL, "as 84"),
]


CRATES = {"zpool": MUTANTS, "zcache": [Mutant(*each) for each in mutants_zcache.MUTANTS]}


def places(mutant, text):
    """What `mutant` replaces in `text`, and by what: starts, ends and codes."""
    single = isinstance(mutant.text, str)
    for marked, new in [(mutant.text, mutant.new)] if single else zip(mutant.text, mutant.new):
        before, rest = marked.split("[[")
        old, after = rest.split("]]")
        found = text.count(before + old + after)
        if found != 1:
            sys.exit(f"mutant {mutant.number}: its text is {found} times in {mutant.file}: {marked}")
        start = text.index(before + old + after) + len(before)
        yield start, start + len(old), new


SWITCH = """
/// Whether this mutant is on.
pub(crate) fn mutant(number: u32) -> bool {
    static ON: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *ON.get_or_init(|| std::env::var("ZPOOL_MUTANT").map_or(0, |on| on.parse().unwrap())) == number
}
"""


def plant(crate, source):
    """Puts all mutants of a crate behind a switch, into the copy of it at `source`."""
    files = {}
    for mutant in CRATES[crate]:
        files.setdefault(mutant.file, []).append(mutant)
    for file, mutants in files.items():
        path = source / file
        text = path.read_text()
        spans = {}
        for mutant in mutants:
            for start, end, new in places(mutant, text):
                spans.setdefault((start, end), []).append((mutant.number, new))
        last = len(text)
        for (start, end), choices in sorted(spans.items(), reverse=True):
            if end > last:
                sys.exit(f"{file}: mutant {choices[0][0]} is inside of another one")
            last = start
            old = text[start:end]
            arms = "".join(f"if crate::sync::mutant({number}) {{ {new} }} else " for number, new in choices)
            code = f"{arms}{{ {old} }}"
            if not old.endswith((";", "}")) and old:
                code = f"{{ {code} }}"
            text = text[:start] + code + text[end:]
        path.write_text(text)
    sync = next(path for path in (source / "sync.rs", source / "sync/mod.rs") if path.exists())
    sync.write_text(sync.read_text() + SWITCH)


class Runner:
    def __init__(self, binaries):
        self.limit = int(os.environ["SECONDS_EACH"])
        self.tests = {}
        for binary in binaries:
            listed = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout
            tests = [line.removesuffix(": test") for line in listed.splitlines() if line.endswith(": test")]
            models = [test for test in tests if "models::" in test and not test.endswith("_noticed")]
            # The binary with models is loom's: what else there is in it runs without loom as well.
            self.tests |= {test: binary for test in models or tests}
        self.sound = {}

    def fails(self, test, mutant):
        """What the test says with this mutant on; none if it passes, or comes to no end in its time."""
        environment = dict(os.environ, ZPOOL_MUTANT=str(mutant))
        command = [self.tests[test], "--exact", test, "--include-ignored", "--nocapture"]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=self.limit)
        except subprocess.TimeoutExpired:
            return None
        if done.returncode == 0:
            return None
        said = (done.stdout + done.stderr).decode(errors="replace").splitlines()
        panics = [nth for nth, line in enumerate(said) if "panicked at" in line]
        return said[panics[0] + 1] if panics and panics[0] + 1 < len(said) else f"exit {done.returncode}"

    def catch(self, mutant):
        """The first of the mutant's models that fails with it and passes without, and what it says."""
        tried = set()
        for part in mutant.models:
            for test in self.tests:
                if part not in "::" + test or test in tried:
                    continue
                tried.add(test)
                said = self.fails(test, mutant.number)
                if said and self.sound.setdefault(test, not self.fails(test, 0)):
                    return test, said
        return None


def run(crate, binaries, wanted):
    runner = Runner(binaries)
    mutants = [mutant for mutant in CRATES[crate] if not wanted or mutant.number in wanted]
    missed = []
    print("| mutant | where | caught by |\n|---|---|---|", flush=True)
    with ThreadPoolExecutor(int(os.environ["JOBS"])) as pool:
        catch = lambda mutant: runner.catch(mutant) if wanted or not mutant.equivalent else None
        for mutant, caught in zip(mutants, pool.map(catch, mutants)):
            if caught:
                by = f"`{caught[0].rsplit('::', 1)[1]}`"
                if "-v" in sys.argv:
                    by += f": {caught[1]}"
                if mutant.equivalent:
                    missed.append(mutant.number)
                    by += ", though it is listed as equivalent"
            elif mutant.equivalent:
                by = f"none: {mutant.equivalent}"
            else:
                by = "NONE"
                missed.append(mutant.number)
            print(f"| {mutant.number} {mutant.what} | `{mutant.file}` | {by} |", flush=True)
    print(f"mutants of {crate}: {len(mutants)}, of which {len(missed)} are not as listed here{': ' if missed else ''}"
          + " ".join(map(str, missed)))
    return 1 if missed else 0


if __name__ == "__main__":
    numbers = [mutant.number for mutants in CRATES.values() for mutant in mutants]
    assert len(set(numbers)) == len(numbers), "each mutant has a number of its own"
    command, *words = sys.argv[1:]
    wanted = {int(word) for word in words if word.isdigit()}
    if command == "crates":
        named = [crate for crate in CRATES if crate in words]
        for crate in named or CRATES:
            if not wanted or wanted & {mutant.number for mutant in CRATES[crate]}:
                print(crate)
    elif command == "plant":
        plant(words[0], Path(words[1]))
    else:
        sys.exit(run(words[0], [word for word in words[1:] if os.sep in word], wanted))
