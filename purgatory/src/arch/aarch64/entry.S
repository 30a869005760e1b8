// arm64: from the service kernel to the main kernel with the MMU and the caches on in between, and what happens when the
// CPU objects on the way.
//
// In:  EL1, EL2, or EL2 with VHE; MMU, data cache and instruction cache off; all exceptions masked; no stack; this
//      segment clean to the point of coherency (the service kernel's relocate_kernel.S).
// Out: Documentation/arch/arm64/booting.rst: the same level, MMU and data cache off, x0 = device tree, x1 = x2 = x3 = 0.
//
// Between `purgatory_start` and `cached`, and between `uncached` and `purgatory_leave`'s branch, there is no load and no
// store: with the MMU off they would be uncached, and a store would be hidden behind a stale line later.
// Registers:  x19 counter at entry   x21 regime: 0 EL1, 1 EL2, 2 EL2 with VHE (where *_EL1 names reach EL2's registers)
//             tpidr_el1 (the same at all levels, and no memory) how far it has gone wrong: 0 not at all; bits FAULTED
//             to HVC_TRIED
.set FAULTED, 0
.set RESETTING, 1
.set SMC_TRIED, 2
.set HVC_TRIED, 3

// Arm ARM, D24.2: fields of the system registers.
.set CPACR_FPEN, 3 << 20		// SIMD registers usable (VHE: CPTR_EL2, the same bits)
.set CPTR_TFP, 1 << 10			// they are trapped
.set MMFR3_S1PIE_S1POE, 0xf << 8 | 0xf << 16
.set MMFR0_TGRAN4, 28			// 4 bits: 0xf is none
.set MMFR0_TGRAN4_NONE, 0xf
.set MMFR0_PARANGE, 0xf
.set PARANGE_48_BITS, 5
.set MAIR, 0xff04			// 0 Device-nGnRE, 1 Normal write-back
.set TCR, 0x3510			// T0SZ 16 (48 bits, four levels), walks inner shareable write-back, 4 KiB granule
.set TCR_EL1, TCR | 1 << 23		// EPD1: nothing in the upper half
.set TCR_EL1_IPS, 32
.set TCR_EL2, TCR | 1 << 31 | 1 << 23	// RES1
.set TCR_EL2_PS, 16
.set SCTLR_EL1_OFF, 0x30d00800		// as Linux wants it: RES1 and SPAN; SA0 off
.set SCTLR_EL2_OFF, 0x30c50830		// RES1
.set SCTLR_M, 1 << 0
.set SCTLR_C, 1 << 2
.set SCTLR_I, 1 << 12
.set SCTLR_EL1_ON, SCTLR_EL1_OFF | SCTLR_M | SCTLR_C | SCTLR_I
.set SCTLR_EL2_ON, SCTLR_EL2_OFF | SCTLR_M | SCTLR_C | SCTLR_I

// What `say` needs of the UARTs: see uart.rs.
.set MMIO_16550, 2
.set LSR, 5
.set LSR_THRE, 1 << 5
.set PL011, 3
.set FR, 0x18
.set FR_TXFF, LSR_THRE			// the same bit, the other way round
.set WORDS, 2				// shift of registers that are 32 bits wide
.set POLLS, 0x20000

.set PSCI_SYSTEM_RESET, 0x84000009	// Arm DEN0022, 5.1.9

.pushsection .params, "a", %progbits
.globl params
params:
	.quad	{magic}
	.long	{version}
	.skip	{params_size} - 12

.section .stack, "aw", %nobits
.p2align 4
	.skip	1024
exception_stack:		// grows down from here
	.skip	3*1024
stack:				// and so does this; what it does not have it takes from the exception's

// 16 vectors of 128 bytes; which one it is tells ESR. First of all code, where their alignment costs nothing.
.section .text.vectors, "ax", %progbits
.p2align 11
vectors:
.rept 16
.p2align 7
	b	fault
.endr

.section .text.entry, "ax", %progbits

// x21 = regime; clobbers x9.
.macro REGIME
	mov	x21, #0
	mrs	x9, CurrentEL
	cmp	x9, #(2 << 2)
	b.ne	1f
	mrs	x9, hcr_el2
	ubfx	x9, x9, #34, #1		// E2H
	add	x21, x9, #1
1:
.endm

.macro CONSTANT register, value
	mov	\register, #(\value & 0xffff)
	movk	\register, #(\value >> 16), lsl #16
.endm

// No translation and no instruction is left from before. At EL2 all of it, VHE or not: with E2H and without TGE, as a
// kernel with hVHE has it, VMALLE1 would mean EL1's.
.macro DROP_STALE
	isb
	cbnz	x21, .Lel2\@
	tlbi	vmalle1
	b	.Ldropped\@
.Lel2\@:	tlbi	alle2
.Ldropped\@:
	dsb	nsh
	ic	iallu
	dsb	nsh
	isb
.endm

.macro ADDRESS register, symbol
	adrp	\register, \symbol
	add	\register, \register, :lo12:\symbol
.endm

// 1. Registers only.
.globl purgatory_start
purgatory_start:
	msr	daifset, #15
	msr	spsel, #1
	msr	tpidr_el1, xzr
	isb
	mrs	x19, cntvct_el0
	REGIME
	ADDRESS	x9, vectors
	cmp	x21, #1
	b.eq	1f

	msr	vbar_el1, x9
	mrs	x9, cpacr_el1
	orr	x9, x9, #CPACR_FPEN
	msr	cpacr_el1, x9
	b	2f
1:	msr	vbar_el2, x9
	mrs	x9, cptr_el2
	bic	x9, x9, #CPTR_TFP
	msr	cptr_el2, x9
2:	isb

	// Kernels since 6.5 leave permission indirection (PIE) on, and overlays (POE), which change what the tables' bits mean.
	// A CPU with TCR2 and neither keeps its TCR2: firmware that knows neither may trap it.
	mrs	x9, s3_0_c0_c7_3	// ID_AA64MMFR3_EL1
	CONSTANT x10, MMFR3_S1PIE_S1POE
	tst	x9, x10
	b.eq	2f
	cmp	x21, #1
	b.eq	1f
	msr	s3_0_c2_c0_3, xzr	// TCR2_EL1
	b	2f
1:	msr	s3_4_c2_c0_3, xzr	// TCR2_EL2
2:
	mrs	x10, id_aa64mmfr0_el1
	ubfx	x9, x10, #MMFR0_TGRAN4, #4
	cmp	x9, #MMFR0_TGRAN4_NONE
	b.eq	no_granule
	and	x10, x10, #MMFR0_PARANGE
	mov	x11, #PARANGE_48_BITS	// the tables have no room for more
	cmp	x10, x11
	csel	x10, x10, x11, lo

	mov	x9, #MAIR
	ADDRESS	x13, tables		// the stage puts the root directly behind the blob
	cmp	x21, #1
	b.eq	1f

	CONSTANT x12, TCR_EL1
	orr	x12, x12, x10, lsl #TCR_EL1_IPS
	msr	mair_el1, x9
	msr	tcr_el1, x12
	msr	ttbr0_el1, x13
	DROP_STALE
	CONSTANT x9, SCTLR_EL1_ON
	msr	sctlr_el1, x9
	isb
	b	cached

1:	CONSTANT x12, TCR_EL2
	orr	x12, x12, x10, lsl #TCR_EL2_PS
	msr	mair_el2, x9
	msr	tcr_el2, x12
	msr	ttbr0_el2, x13
	DROP_STALE
	CONSTANT x9, SCTLR_EL2_ON
	msr	sctlr_el2, x9
	isb

// 2. Rust: the check, and what is clean after it: see run.rs.
.globl cached
cached:
	ADDRESS	x9, stack
	mov	sp, x9
	mov	x0, x19
	mov	x1, x21
	mov	x29, xzr
	bl	purgatory_main		// returns if all is well

// 3. Everything that was written here: the stack's pages and the record. No store from now on.
.globl written
written:
	REGIME
	ADDRESS	x9, params
	ldr	x20, [x9, #{entry}]
	ldr	x22, [x9, #{argument}]
	ldr	x23, [x9, #{record}]
	ADDRESS	x0, writable
	ADDRESS	x1, tables
	bl	clean_and_invalidate
	cbz	x23, uncache
	mov	x0, x23
	add	x1, x23, #{record_size}
	bl	clean_and_invalidate

// 4. Registers only, again.
.globl uncache
uncache:
	dsb	sy
	isb				// Falkor erratum 1041
	cmp	x21, #1
	b.eq	1f
	CONSTANT x9, SCTLR_EL1_OFF
	msr	sctlr_el1, x9
	b	uncached
1:	CONSTANT x9, SCTLR_EL2_OFF
	msr	sctlr_el2, x9
.globl uncached
uncached:
	DROP_STALE
	mov	x0, x22
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
.globl purgatory_leave
purgatory_leave:
	br	x20

// The lines of [x0, x1), to the point of coherency and out of the caches; they are mapped, in whole pages. No store, no stack;
// clobbers x0, x2 and x3. DC CIVAC and not CVAC, also where nobody reads them again: some Cortex-A53 need it (errata 819472,
// 824069, 826319, 827319).
.globl clean_and_invalidate
clean_and_invalidate:
	mrs	x3, ctr_el0
	ubfx	x3, x3, #16, #4		// DminLine: log2 of words
	mov	x2, #4
	lsl	x2, x2, x3
	lsl	x3, x2, #2
	sub	x3, x3, #1		// four lines at a time, of at most 1 KiB, never leave the page
	bic	x0, x0, x3
1:	cmp	x0, x1
	b.hs	2f
.rept 4
	dc	civac, x0
	add	x0, x0, x2
.endr
	b	1b
2:	dsb	sy
	ret

// Says what happened; a fault in that, or in the reset, goes on with the reset.
fault:
	mrs	x9, tpidr_el1
	cbnz	x9, purgatory_reset
	mov	x9, #(1 << FAULTED)
	msr	tpidr_el1, x9
	REGIME
	cmp	x21, #1
	b.eq	1f
	mrs	x9, sctlr_el1
	mrs	x0, esr_el1
	mrs	x1, elr_el1
	mrs	x2, far_el1
	b	2f
1:	mrs	x9, sctlr_el2
	mrs	x0, esr_el2
	mrs	x1, elr_el2
	mrs	x2, far_el2
2:	ADDRESS	x10, fault_text
	tbz	x9, #0, say		// no MMU: Rust code would fault again
	ADDRESS	x9, exception_stack
	mov	sp, x9
	bl	purgatory_fault		// does not return

no_granule:
	ADDRESS	x10, granule_text

// Prints the text at x10 with the MMU off, then resets. Aligned loads and single stores only: everything is a device now, and
// some UARTs take 32 bits only (see uart.rs).
say:
	ADDRESS	x9, params + {uart}
	ldr	w11, [x9]		// kind
	ldr	w12, [x9, #4]		// reg_shift
	ldr	x13, [x9, #8]		// base
	mov	w14, #LSR
	lsl	w14, w14, w12
	mov	w15, #LSR_THRE		// is 1 when it takes a byte
	cmp	w11, #MMIO_16550
	b.eq	1f
	cmp	w11, #PL011
	b.ne	purgatory_reset
	mov	w12, #WORDS
	mov	w14, #FR
	mov	w15, #0			// FR_TXFF is 0 then
1:	ldrb	w16, [x10], #1
	cbz	w16, purgatory_reset
	mov	w17, #POLLS
2:	subs	w17, w17, #1
	b.eq	purgatory_reset
	cmp	w12, #WORDS
	b.hs	3f
	ldrb	w18, [x13, x14]
	b	4f
3:	ldr	w18, [x13, x14]
4:	and	w18, w18, #FR_TXFF
	cmp	w18, w15
	b.ne	2b
	cmp	w12, #WORDS
	b.hs	5f
	strb	w16, [x13]
	b	1b
5:	str	w16, [x13]
	b	1b

// PSCI SYSTEM_RESET, once with each conduit, the named one first: the parameter block may be damaged or name none. The
// wrong one returns an error or comes back here as a fault. With both tried only the watchdog is left.
.macro SYSTEM_RESET instruction, tried
	orr	x20, x20, #(1 << \tried)
	msr	tpidr_el1, x20
	CONSTANT w0, PSCI_SYSTEM_RESET
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
	\instruction
	b	purgatory_reset
.endm

.globl purgatory_reset
purgatory_reset:
	mrs	x20, tpidr_el1
	tbnz	x20, #RESETTING, 1f
	orr	x20, x20, #(1 << RESETTING)
	msr	tpidr_el1, x20
	ADDRESS	x9, params
	ldr	w10, [x9, #{conduit}]	// may fault, too
	cmp	w10, #2
	b.eq	2f
1:	tbnz	x20, #SMC_TRIED, 2f
	SYSTEM_RESET ".inst 0xd4000003", SMC_TRIED	// smc #0
2:	tbnz	x20, #HVC_TRIED, 3f
	SYSTEM_RESET "hvc #0", HVC_TRIED
3:	wfi
	b	3b

.section .rodata.entry, "a", %progbits
granule_text:
	.asciz	"purgatory: this CPU has no 4 KiB pages; resetting\r\n"
fault_text:
	.asciz	"purgatory: fault with the MMU off; resetting\r\n"
.popsection
