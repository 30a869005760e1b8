//! What an x86 CPU, or the hypervisor that plays one, says of itself.

/// The registers of a leaf: EAX, EBX, ECX, EDX. Zeros where there is no such leaf.
#[cfg(target_arch = "x86_64")]
pub(crate) fn leaf(number: u32) -> [u32; 4] {
    use core::arch::x86_64::__cpuid;
    // The basic and the extended leaves say each how many there are.
    let most = __cpuid(number & 0x8000_0000).eax;
    if number > most {
        return [0; 4];
    }
    let said = __cpuid(number);
    [said.eax, said.ebx, said.ecx, said.edx]
}

/// No other architecture has any.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn leaf(_: u32) -> [u32; 4] {
    [0; 4]
}
