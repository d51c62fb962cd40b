# Prints a tree as JSON lines: everything about each inode that a layer determines. Usage: tree.py DIR
import hashlib, json, os, stat, sys

root = os.fsencode(sys.argv[1])
first_of = {}


def describe(path):
    status = os.lstat(path)
    name = os.path.relpath(path, root)
    kind = stat.S_IFMT(status.st_mode)
    entry = {
        "path": name.decode("latin-1"),
        "type": {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFCHR: "char",
                 stat.S_IFBLK: "block", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}[kind],
        "mode": oct(stat.S_IMODE(status.st_mode)),
        "owner": [status.st_uid, status.st_gid],
        "mtime": str(status.st_mtime_ns),
        "xattrs": {key: os.getxattr(path, key, follow_symlinks=False).hex()
                   for key in sorted(os.listxattr(path, follow_symlinks=False))},
    }
    if kind == stat.S_IFLNK:
        entry["target"] = os.readlink(path).decode("latin-1")
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            entry["content"] = [status.st_size, hashlib.file_digest(file, "sha256").hexdigest()]
    if kind != stat.S_IFDIR and status.st_nlink > 1:
        entry["same_as"] = first_of.setdefault(status.st_ino, name.decode("latin-1"))
    print(json.dumps(entry, sort_keys=True))


describe(root)
for directory, names, files in os.walk(root):
    names.sort()
    for name in sorted(names + files):
        describe(os.path.join(directory, name))
