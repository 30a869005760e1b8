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

.macro ADDRESS register, symbol
	adrp	\register, \symbol
	add	\register, \register, :lo12:\symbol
.endm

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
	mrs	x9, cpacr_el1		// FPEN: SIMD registers usable (VHE: CPTR_EL2, the same bits)
	orr	x9, x9, #(3 << 20)
	msr	cpacr_el1, x9
	b	2f
1:	msr	vbar_el2, x9
	mrs	x9, cptr_el2		// TFP: don't trap them
	bic	x9, x9, #(1 << 10)
	msr	cptr_el2, x9
2:	isb

	// FEAT_TCR2: kernels since 6.5 leave permission indirection (PIE) on, which changes what the tables' bits mean.
	mrs	x9, s3_0_c0_c7_3	// ID_AA64MMFR3_EL1
	tst	x9, #15			// TCRX
	b.eq	2f
	cmp	x21, #1
	b.eq	1f
	msr	s3_0_c2_c0_3, xzr	// TCR2_EL1
	b	2f
1:	msr	s3_4_c2_c0_3, xzr	// TCR2_EL2
2:
	mrs	x10, id_aa64mmfr0_el1
	ubfx	x9, x10, #28, #4	// TGran4: 0xf is none
	cmp	x9, #15
	b.eq	no_granule
	and	x10, x10, #15		// PARange, at most 48 bits: the tables have no room for more
	mov	x11, #5
	cmp	x10, x11
	csel	x10, x10, x11, lo

	mov	x9, #0xff04		// MAIR: 0 Device-nGnRE, 1 Normal write-back
	// TCR: T0SZ 16 (48 bits, four levels), walks inner shareable write-back, 4 KiB granule
	mov	x12, #0x3510
	ADDRESS	x13, tables		// the stage puts the root directly behind the blob
	cmp	x21, #1
	b.eq	1f

	movk	x12, #0x0080, lsl #16	// EPD1: nothing in the upper half
	orr	x12, x12, x10, lsl #32	// IPS
	msr	mair_el1, x9
	msr	tcr_el1, x12
	msr	ttbr0_el1, x13
	isb
	tlbi	vmalle1
	dsb	nsh
	ic	iallu
	dsb	nsh
	isb
	mov	x9, #0x1805		// M, C, SA0 off, I; the rest RES1 and SPAN
	movk	x9, #0x30d0, lsl #16
	msr	sctlr_el1, x9
	isb
	b	cached

1:	movk	x12, #0x8080, lsl #16	// RES1 bits 31 and 23
	orr	x12, x12, x10, lsl #16	// PS
	msr	mair_el2, x9
	msr	tcr_el2, x12
	msr	ttbr0_el2, x13
	isb
	tlbi	alle2
	dsb	nsh
	ic	iallu
	dsb	nsh
	isb
	mov	x9, #0x1835		// M, C, I; the rest RES1
	movk	x9, #0x30c5, lsl #16
	msr	sctlr_el2, x9
	isb

.globl cached
cached:
	ADDRESS	x9, stack
	mov	sp, x9
	mov	x0, x19
	mov	x1, x21
	mov	x29, xzr
	bl	purgatory_main		// returns if all is well

	// Everything that was written, the Image and the device tree, to the point of coherency. DC CIVAC and not CVAC:
	// some Cortex-A53 need it (errata 819472, 824069, 826319, 827319). No store after the first of them.
	REGIME
	ADDRESS	x9, params
	ldr	x20, [x9, #{entry}]
	ldr	x0, [x9, #{argument}]
	ldr	w10, [x9, #{clean_count}]
	add	x11, x9, #{clean}
	mrs	x12, ctr_el0
	ubfx	x12, x12, #16, #4	// DminLine: log2 of words
	mov	x13, #4
	lsl	x13, x13, x12
	lsl	x14, x13, #2
	sub	x14, x14, #1		// four lines at a time never leave the page, which is mapped as a whole
	dsb	sy
.globl clean
clean:	cbz	w10, uncache
	sub	w10, w10, #1
	ldp	x15, x16, [x11], #16
	bic	x15, x15, x14
1:	cmp	x15, x16
	b.hs	clean
.rept 4
	dc	civac, x15
	add	x15, x15, x13
.endr
	b	1b

.globl uncache
uncache:
	dsb	sy
	isb				// Falkor erratum 1041
	cmp	x21, #1
	b.eq	1f
	mov	x9, #0x0800		// as the kernel leaves it: RES1 and SPAN
	movk	x9, #0x30d0, lsl #16
	msr	sctlr_el1, x9
	b	uncached
1:	mov	x9, #0x0830
	movk	x9, #0x30c5, lsl #16
	msr	sctlr_el2, x9
.globl uncached
uncached:
	isb
	cmp	x21, #1
	b.eq	1f
	tlbi	vmalle1
	b	2f
1:	tlbi	alle2
2:	dsb	nsh
	ic	iallu
	dsb	nsh
	isb
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
.globl purgatory_leave
purgatory_leave:
	br	x20

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

// Prints the text at x10 with the MMU off, then resets. Aligned loads and single stores only: everything is a device now.
say:
	ADDRESS	x9, params + {uart}
	ldr	w11, [x9]		// kind
	ldr	w12, [x9, #4]		// reg_shift
	ldr	x13, [x9, #8]		// base
	mov	w14, #5			// 16550: LSR bit 5 is 1
	lsl	w14, w14, w12
	mov	w15, #0x20
	cmp	w11, #2
	b.eq	1f
	cmp	w11, #3
	b.ne	purgatory_reset
	mov	w14, #0x18		// PL011: FR bit 5 is 0
	mov	w15, #0
1:	ldrb	w16, [x10], #1
	cbz	w16, purgatory_reset
	mov	w17, #0x20000
2:	subs	w17, w17, #1
	b.eq	purgatory_reset
	ldrb	w18, [x13, x14]
	and	w18, w18, #0x20
	cmp	w18, w15
	b.ne	2b
	strb	w16, [x13]
	b	1b

// PSCI SYSTEM_RESET, once with each conduit, the named one first: the parameter block may be damaged or name none. The
// wrong one returns an error or comes back here as a fault. With both tried only the watchdog is left.
.macro SYSTEM_RESET instruction, tried
	orr	x20, x20, #(1 << \tried)
	msr	tpidr_el1, x20
	mov	w0, #0x0009
	movk	w0, #0x8400, lsl #16
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
