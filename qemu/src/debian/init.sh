#!/bin/busybox sh
# PID 1 of the machine that finishes a Debian root file system: mounts it, runs its /setup in it, powers off.
# INSMOD stands for the modules, one command each.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs dev /dev
INSMOD
tries=0
until [ -b /dev/vda ] || [ $tries = 20 ]; do
    tries=$((tries + 1))
    $B sleep 0.5
done
setup() {
    # Its host's file is all there is to lose in a power cut, and that is made anew.
    $B mount -t ext4 -o barrier=0 /dev/vda /root &&
    for dir in dev proc sys; do $B mount -o bind /$dir /root/$dir || return; done &&
    $B mount -t tmpfs run /root/run &&
    $B chroot /root /bin/sh /setup &&
    $B rm /root/setup &&
    for dir in dev proc sys run; do $B umount /root/$dir || return; done &&
    $B umount /root
}
if setup; then echo "setup: done"; else echo "setup: failed"; fi
$B sync
$B poweroff -f
