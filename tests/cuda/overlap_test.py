"""Reads the machine code of attention's wgmma kernels: their exponentials must be issued while a product is under way.

    overlap_test.py CUOBJDUMP OBJECT…    exit code 0: they are, 1: not, 77: there is no cuobjdump
    overlap_test.py --self-test

ptxas is free to move the wait for a product (WARPGROUP.DEPBAR) above the exponentials (MUFU.EX2) that do not need it; results
stay right and a third of the time is lost. So, in each kernel, the longest stretch of exponentials without a wait in it must
begin after a wait that leaves a product under way, or end at a wait with no new product (HGMMA) in between.
"""
import re
import shutil
import subprocess
import sys

# Exponentials of one step of a thread: a tile's 64 x columns over 128 threads. With masks by row (the last template argument)
# tiles of the forward pass have 96 columns at D = 128 instead of 128.
WANTED = {"forward": {64: 64, 128: 64}, "d_query": {64: 64, 128: 48}, "d_key": {64: 32, 128: 24}}
WANTED_BY_ROW = {**WANTED, "forward": {64: 64, 128: 48}}
KERNEL = re.compile(r"attention_wgmma_(forward|d_query|d_key)_kernel\w*?Li(64|128)ELb([01])E")


def events(lines):
    """((name, exponentials of a step), 'ex2' | 'product' | 'wait 0' | 'wait 1') in the order of the code."""
    kernel = None
    for line in lines:
        if "Function :" in line:
            match = KERNEL.search(line)
            wanted = WANTED_BY_ROW if match and match.group(3) == "1" else WANTED
            kernel = (line.split("Function :")[1].strip(), wanted[match.group(1)][int(match.group(2))]) if match else None
        elif kernel is None:
            continue
        elif "MUFU.EX2" in line:
            yield kernel, "ex2"
        elif "HGMMA" in line:
            yield kernel, "product"
        elif "WARPGROUP.DEPBAR" in line:
            yield kernel, "wait 0" if re.search(r"gsb0, 0x0\b", line) else "wait 1"


def stretches(kernel_events):
    """(exponentials, what waited before them, whether a product begins before the next wait)."""
    before, count, product = None, 0, False
    for event in kernel_events:
        if event == "ex2":
            if product and count:   # a product between them: another stretch
                yield count, before, True
                count = 0
            product = False
            count += 1
        elif event == "product":
            product = True
        else:
            if count:
                yield count, before, product
            before, count, product = event, 0, False
    if count:
        yield count, before, True


def faults(lines):
    kernels = {}
    for kernel, event in events(lines):
        kernels.setdefault(kernel, []).append(event)
    found = []
    for (name, wanted), kernel_events in kernels.items():
        longest = max(stretches(kernel_events), default=(0, None, True), key=lambda s: s[0])
        count, before, product = longest
        if count < wanted:
            found.append(f"{name}: waits split its exponentials; {count} in a row, not {wanted}")
        elif before != "wait 1" and product:
            found.append(f"{name}: its {count} exponentials overlap no product")
    return found, len(kernels)


def self_test():
    name = "Function : _ZN7ballast4cuda30attention_wgmma_forward_kernelI13__nv_bfloat16Li128ELb0EEEv"
    wait = lambda pending: f"WARPGROUP.DEPBAR.LE gsb0, 0x{pending} ;"
    good = [name, "HGMMA", wait(1), wait(0), *["MUFU.EX2"] * 66, wait(0), wait(0), "HGMMA", wait(0)]
    late = [name, "HGMMA", wait(1), wait(0), wait(0), *["MUFU.EX2"] * 66, "HGMMA", wait(0)]
    split = [name, "HGMMA", wait(1), *["MUFU.EX2"] * 3, wait(0), *["MUFU.EX2"] * 61, "HGMMA", wait(0)]
    assert faults(good) == ([], 1), faults(good)
    assert "overlap no product" in faults(late)[0][0]
    assert "waits split" in faults(split)[0][0]
    narrow = [name, "HGMMA", wait(1), *["MUFU.EX2"] * 50, wait(0), "HGMMA", wait(0)]
    assert "50 in a row, not 64" in faults(narrow)[0][0]
    assert faults([name.replace("Lb0", "Lb1"), *narrow[1:]]) == ([], 1)
    assert faults([*good, name.replace("Lb0", "Lb1"), *narrow[1:]]) == ([], 2)
    print("the rule tells good from bad")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    cuobjdump, *objects = sys.argv[1:]
    if not shutil.which(cuobjdump):
        print("skipped: there is no cuobjdump (the CUDA toolkit's, or PyPI's nvidia-cuda-cuobjdump)")
        return 77
    bad = not objects
    for code in objects:
        dump = subprocess.run([cuobjdump, "-sass", code], capture_output=True, text=True)
        if dump.returncode != 0:   # it needs nvdisasm beside it
            print(f"skipped: {cuobjdump} does not work here: {dump.stderr.strip()}")
            return 77
        found, count = faults(dump.stdout.splitlines())
        print("\n".join(found))
        if count != 12:
            print(f"{count} kernels found in {code}, not 12: forward, dQ and dK of bf16 and fp16 heads of 64 and 128")
        bad = bad or found or count != 12
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
