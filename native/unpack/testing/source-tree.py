# Creates the tree from which the tests pack an ordinary layer: one of everything. Usage: source-tree.py DIR; as root.
import os, stat, struct, sys

os.umask(0)
os.chdir(sys.argv[1])


def put(path, content=b"", mode=0o644, owner=(0, 0), mtime_ns=1_600_000_000_123_456_789):
    with open(path, "wb") as file:
        file.write(content)
    os.chown(path, *owner)
    os.chmod(path, mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def directory(path, mode=0o755, owner=(0, 0)):
    os.mkdir(path)
    os.chown(path, *owner)
    os.chmod(path, mode)


directory("bin")
put("bin/busybox", os.urandom(700_001), 0o755)
os.link("bin/busybox", "bin/sh")
put("bin/su", b"setuid", 0o4755)
put("bin/wall", b"setgid", 0o2755, (0, 5))
put("bin/ping", b"capability", 0o755)
# struct vfs_cap_data, revision 2: CAP_NET_RAW permitted, effective bit set
os.setxattr("bin/ping", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
directory("etc")
put("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
put("etc/shadow", b"secret", 0o000, (0, 42))
put("etc/noted", b"x")
os.setxattr("etc/noted", "user.note", bytes(range(256)))
os.setxattr("etc", "user.folder", b"line one\nline two=3")
put("etc/empty")
put("etc/old", b"before 1970", mtime_ns=-1_500_000_000)
put("etc/later", b"after 2038", mtime_ns=5_000_000_000_000_000_001)
directory("home", 0o755)
directory("home/user", 0o2750, (1000, 1001))
put("home/user/file", b"in a setgid directory", 0o600, (1000, 1000))
put("home/user/big-ids", b"x", 0o640, (3_000_000, 2_000_000_000))
directory("tmp", 0o1777)
os.symlink("/etc/passwd", "absolute")
os.symlink("../../../../etc/passwd", "etc/upwards")
os.symlink("nowhere", "dangling")
os.lchown("dangling", 7, 8)
os.symlink("x" * 300, "long-link")
directory("dev")
os.mknod("dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
os.mknod("dev/disk", stat.S_IFBLK | 0o660, os.makedev(8, 300))
os.mkfifo("dev/initctl", 0o600)
os.chown("dev/disk", 0, 6)
put("name with spaces and ünïcode", b"x")
put("l" * 101, b"long name")
deep = "/".join(["d" * 60] * 6)
os.makedirs(deep, 0o755)
put(deep + "/" + "f" * 200, b"long path")
for size in (511, 512, 513, 262_143, 262_144, 262_145):
    put(f"size-{size}", os.urandom(size))
for path, _, _ in os.walk("."):
    os.utime(path, ns=(1_500_000_000_000_000_007, 1_500_000_000_000_000_007))
