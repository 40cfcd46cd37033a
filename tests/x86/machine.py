"""A PC with a processor that this machine has not, emulated by Bochs: Debian's kernel, and this machine's own Python.

The guest boots from a CD with the kernel and an init. Its first disk holds this interpreter, `PACKAGES` and the
libraries that they load; the second one the job. What the job says comes out of port 0xE9, line by line. Nothing here
needs root, and nothing is installed: Debian's packages are named in debs.txt with their SHA-256, and unpacked in the
user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import cache_folder, in_one_piece, write_text
from tests import debian

HERE = Path(__file__).parent
DEBS = HERE / "debs.txt"
PACKAGES = ("numpy", "msgspec", "opencv-python", "openvino", "onnxruntime")
NEEDLESS = re.compile(r"gpu_plugin|npu_plugin|cache\.json|/(tests|tools|include|transformers|quantization|torch)/|"
                      r"(tensorflow|pytorch|paddle|gguf|jax)\w*_frontend|\.pyi$|^/?\.\./")
"""Files of these packages that no mask needs."""

BOCHSRC = """romimage: file={debs}/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file={debs}/usr/share/vgabios/vgabios.bin
display_library: nogui
cpu: model=sapphire_rapids, count=1, ips=400000000, exclude_features="amx_bf16, amx_int8, amx"
memory: guest=2048, host=2048
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata0-master: type=disk, path={folder}/root.img, mode=flat
ata0-slave: type=disk, path={folder}/job.img, mode=flat
ata1-master: type=cdrom, path={folder}/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={folder}/console.txt
port_e9_hack: enabled=1
log: {folder}/bochs.txt
panic: action=fatal
clock: sync=none
"""
"""AMX is left out, as Bochs has no XFD, without which Linux does not start on a processor with AMX."""

LINE = ("console=ttyS0,115200 rdinit=/init mitigations=off nokaslr nowatchdog audit=0 apparmor=0 "
        "random.trust_cpu=on clearcpuid=580")
"""580 is FSRM: Linux 6.1 keeps it where it finds fast strings switched off, as it does in Bochs, and its memmove then
runs away on less than 32 bytes."""

MODULES = ("crc32c_generic", "crct10dif_generic", "ata_piix", "sd_mod", "ext4")
INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /dev /root
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in {modules}; do busybox insmod /$module.ko; done
busybox mount -t ext4 -o ro /dev/sda /root
busybox mount -t ext4 -o ro /dev/sdb /root/job
for folder in proc sys dev; do busybox mount -o bind /$folder /root/$folder; done
busybox mount -t tmpfs tmp /root/tmp
export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu PYTHONPATH=/job:/site PYTHONHOME={home}
export PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
busybox chroot /root {python} -u -m tests.x86.inside > /dev/console 2>&1
echo -n '#' | busybox dd of=/dev/port bs=1 seek=233
"""
"""The last line says on port 0xE9 that all is done, and Bochs is ended."""


def check(bochs: Path) -> None:
    """Raise UserError where the machine cannot be emulated here."""
    for tool in ("apt-get", "dpkg-deb", "mke2fs"):
        if not shutil.which(tool):
            raise UserError(f"{tool} cannot be found; the emulated PC is made of Debian 12's packages, with its tools")
    if not bochs.is_file():
        raise UserError(f"--bochs {bochs} is no file; expected Bochs 3.1 or newer, built as docs/int8.md says")


def run(bochs: Path, job: Sequence[Mapping[str, Any]], files: Sequence[Path],
        folder: Path) -> Iterator[dict[str, Any]]:
    """Do a job on the emulated machine.

    Args:
        bochs: the program.
        job: what `tests.x86.inside` reads.
        files: files that the job names, to lie beside it.
        folder: where disks, console.txt and bochs.txt go.

    Yields:
        What the job said, as it says it.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    debs = _debs()
    _boot(debs, folder / "boot.iso")
    with in_one_piece(folder / "root") as system:
        _system(system)
        _disk(system, folder / "root.img")
    with in_one_piece(folder / "job") as inside:
        inside.mkdir()
        for path in files:
            shutil.copy2(path, inside)
        write_text(inside / "job.json", json.dumps(list(job)))
        for name in ("runtime", "tests/x86"):
            shutil.copytree(HERE.parent.parent / name, inside / name)
        (inside / "tests" / "__init__.py").touch()
        _disk(inside, folder / "job.img")
    write_text(folder / "bochsrc", BOCHSRC.format(debs=debs, folder=folder))
    for lock in folder.glob("*.lock"):  # of a Bochs that was ended
        lock.unlink()
    with subprocess.Popen([str(bochs), "-q", "-f", str(folder / "bochsrc")], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as emulated:
        try:
            assert emulated.stdout
            for line in emulated.stdout:
                if line.startswith("#"):
                    return
                if line.startswith("{"):
                    yield json.loads(line)
            raise UserError(f"Bochs ended before the job did; {folder}/console.txt and bochs.txt say how far it came")
        finally:
            emulated.kill()


def _debs() -> Path:
    """A folder with the packages of debs.txt unpacked."""
    folder = cache_folder() / "x86" / hashlib.sha256(DEBS.read_bytes()).hexdigest()[:12]
    if folder.is_dir():
        return folder
    downloads = cache_folder() / "x86" / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    with in_one_piece(folder) as growing:
        for path in debian.debs(DEBS, downloads):
            debian.run(["dpkg-deb", "--extract", path, growing])
    return folder


def _system(folder: Path) -> None:
    """Fill `folder` with this interpreter, `PACKAGES`, and the libraries that they load."""
    library, python = Path(sysconfig.get_path("stdlib")), _python()
    shutil.copytree(library, folder / library.relative_to("/"), ignore=shutil.ignore_patterns(
        "site-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3", "config-*", "*.opt-?.pyc"))
    sources = {folder / "site" / file: Path(str(file.locate())) for name in PACKAGES
               for file in metadata.files(name) or () if not NEEDLESS.search(f"/{file}")}
    sources[folder / python.relative_to("/")] = python
    for source in [*sources.values(), *library.glob("lib-dynload/*.so")]:
        if ".so" in source.name or source == python:
            said = subprocess.run(["ldd", str(source)], capture_output=True, text=True, check=False).stdout
            needed = [Path(word) for word in re.findall(r"(/\S+) \(0x", said) if "site-packages" not in word]
            sources |= {folder / path.relative_to("/"): path for path in needed}
    for target, source in sources.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    for name in ("proc", "sys", "dev", "tmp", "job"):
        (folder / name).mkdir()


def _python() -> Path:
    return Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")


def _boot(debs: Path, iso: Path) -> None:
    """Write the CD: kernel, and an initramfs of BusyBox, kernel modules and `INIT`."""
    with in_one_piece(iso.with_suffix(".folder")) as disc:
        ram = disc / "ram"
        (ram / "bin").mkdir(parents=True)
        shutil.copy2(debs / "bin" / "busybox", ram / "bin")
        needed = modules({path.stem: path.read_bytes() for path in (debs / "lib").rglob("*.ko")})
        for path in (debs / "lib").rglob("*.ko"):
            if path.stem.replace("-", "_") in needed:
                shutil.copy2(path, ram / f"{path.stem.replace('-', '_')}.ko")
        write_text(ram / "init", INIT.format(modules=" ".join(needed), home=sys.base_prefix, python=_python()))
        (ram / "init").chmod(0o755)
        names = "\n".join(str(path.relative_to(ram)) for path in sorted(ram.rglob("*")))
        archive = subprocess.run([debs / "bin" / "busybox", "cpio", "-o", "-H", "newc"], cwd=ram, input=names.encode(),
                                 capture_output=True, check=True)
        shutil.rmtree(ram)
        (disc / "initrd").write_bytes(archive.stdout)
        (kernel,) = (debs / "boot").glob("vmlinuz-*")
        shutil.copy2(kernel, disc / "vmlinuz")
        shutil.copy2(debs / "usr/lib/ISOLINUX/isolinux.bin", disc)
        shutil.copy2(debs / "usr/lib/syslinux/modules/bios/ldlinux.c32", disc)
        write_text(disc / "isolinux.cfg", f"default x\nlabel x\nkernel vmlinuz\nappend initrd=initrd {LINE}\n")
        debian.run([debs / "usr/bin/genisoimage", "-quiet", "-o", iso, "-b", "isolinux.bin", "-c", "boot.cat",
                    "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", disc],
                   environment={"LD_LIBRARY_PATH": str(debs / "usr/lib/x86_64-linux-gnu")})


def modules(files: Mapping[str, bytes]) -> list[str]:
    """Names of `MODULES` and of all that they need, in the order in which they are loaded.

    Args:
        files: kernel modules by name, as they lie on the disk.
    """
    known = {name.replace("-", "_"): content for name, content in files.items()}
    found: list[str] = []

    def add(name: str) -> None:
        depends = re.search(rb"\0depends=([^\0]*)\0", known[name])
        for other in filter(None, depends[1].decode().split(",") if depends else ()):
            add(other.replace("-", "_"))
        if name not in found:
            found.append(name)

    for name in MODULES:
        add(name)
    return found


def _disk(folder: Path, image: Path) -> None:
    """Write a folder as an ext4 image."""
    size = sum(path.lstat().st_size + 4096 for path in folder.rglob("*"))
    image.unlink(missing_ok=True)
    debian.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-d", folder, image,
                f"{size * 5 // 4 // 2**20 + 16}M"])
