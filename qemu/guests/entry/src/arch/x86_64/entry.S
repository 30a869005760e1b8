# The protected-mode part of a bzImage (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"): long mode, paging on,
# %rsi is the zero page. Only the kernel's own range, the zero page and the command line are sure to be mapped.
# Everything worth reporting is saved before it is changed.

	.set	DIRECTORIES, 64		# the guest's own tables map this many GiB

	.section .text.entry, "ax"
	.global	_start
_start:					# the 32-bit entry, which nobody takes
	cli
	hlt
	jmp	_start
	.org	0x40
	.quad	0, 0, 0, 0		# the record of image::RECORD

	.org	0x200
	movq	%rsi, state+0(%rip)
	movq	%rax, state+8(%rip)
	movq	%rbx, state+16(%rip)
	movq	%rcx, state+24(%rip)
	movq	%rdx, state+32(%rip)
	movq	%rdi, state+40(%rip)
	movq	%rbp, state+48(%rip)
	movq	%rsp, state+56(%rip)
	leaq	stack_top(%rip), %rsp
	pushfq
	popq	state+64(%rip)
	cli
	cld
	leaq	_start(%rip), %rax
	movq	%rax, state+72(%rip)
	movq	%cr0, %rax
	movq	%rax, state+80(%rip)
	movq	%cr3, %rax
	movq	%rax, state+88(%rip)
	movq	%cr4, %rax
	movq	%rax, state+96(%rip)
	movl	$0xc0000080, %ecx	# EFER
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	movq	%rax, state+104(%rip)
	xorl	%eax, %eax
	movw	%cs, %ax
	movq	%rax, state+112(%rip)
	movw	%ds, %ax
	movq	%rax, state+120(%rip)
	movw	%es, %ax
	movq	%rax, state+128(%rip)
	movw	%ss, %ax
	movq	%rax, state+136(%rip)
	movw	%fs, %ax
	movq	%rax, state+144(%rip)
	movw	%gs, %ax
	movq	%rax, state+152(%rip)
	subq	$16, %rsp
	sgdt	(%rsp)
	movzwl	(%rsp), %eax
	movq	%rax, state+160(%rip)
	movq	2(%rsp), %rax
	movq	%rax, state+168(%rip)
	sidt	(%rsp)
	movzwl	(%rsp), %eax
	movq	%rax, state+176(%rip)
	movq	2(%rsp), %rax
	movq	%rax, state+184(%rip)

	# Own segments, from an own table. Their accessed bits are set already: the CPU must not write into the image.
	movw	$31, (%rsp)
	leaq	gdt(%rip), %rax
	movq	%rax, 2(%rsp)
	lgdt	(%rsp)
	movl	$0x18, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	pushq	$0x10
	leaq	1f(%rip), %rax
	pushq	%rax
	lretq

	# Own faults: a gate for each of the CPU's 32.
1:	leaq	idt(%rip), %rdi
	leaq	stubs(%rip), %rax
	movl	$32, %ecx
2:	movw	%ax, (%rdi)
	movw	$0x10, 2(%rdi)
	movw	$0x8e00, 4(%rdi)	# present, interrupt gate
	movq	%rax, %rdx
	shrq	$16, %rdx
	movw	%dx, 6(%rdi)
	shrq	$16, %rdx
	movl	%edx, 8(%rdi)
	movl	$0, 12(%rdi)
	addq	$16, %rdi
	addq	$16, %rax
	decl	%ecx
	jnz	2b
	movw	$(32 * 16 - 1), (%rsp)
	leaq	idt(%rip), %rax
	movq	%rax, 2(%rsp)
	lidt	(%rsp)
	addq	$16, %rsp

	# Own page tables: the first GiBs to themselves, for four levels and for five.
	leaq	pml5(%rip), %rdi
	xorl	%eax, %eax
	movl	$(3 * 512), %ecx
	rep stosq			# pml5, pml4, pdpt
	movl	$0x83, %eax		# present, writable, 2 MiB
	movl	$(DIRECTORIES * 512), %ecx
3:	movq	%rax, (%rdi)		# the directories lie behind the pdpt
	addq	$0x200000, %rax
	addq	$8, %rdi
	decl	%ecx
	jnz	3b
	leaq	directories+3(%rip), %rax
	leaq	pdpt(%rip), %rdi
	movl	$DIRECTORIES, %ecx
4:	movq	%rax, (%rdi)
	addq	$4096, %rax
	addq	$8, %rdi
	decl	%ecx
	jnz	4b
	leaq	pdpt+3(%rip), %rax
	movq	%rax, pml4(%rip)
	leaq	pml4+3(%rip), %rax
	movq	%rax, pml5(%rip)
	leaq	pml4(%rip), %rax
	movq	%cr4, %rdx
	testl	$0x1000, %edx		# LA57
	jz	5f
	leaq	pml5(%rip), %rax
5:	movq	%rax, %cr3

	leaq	state(%rip), %rdi
	xorl	%ebp, %ebp
	call	entry_main
6:	hlt
	jmp	6b

	.balign	16
stubs:
	.set	number, 0
	.rept	32
	.balign	16
	pushq	$number
	jmp	7f
	.set	number, number + 1
	.endr
	.balign	16
7:	popq	%rdi
	movq	%rsp, %rsi
	movq	%cr2, %rdx
	andq	$-16, %rsp
	call	entry_fault
	jmp	6b

	.balign	8
gdt:	.quad	0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff

	.section .bss.work, "aw", @nobits
	.balign	4096
pml5:	.skip	4096
pml4:	.skip	4096
pdpt:	.skip	4096
directories:
	.skip	DIRECTORIES * 4096
idt:	.skip	32 * 16
state:	.skip	8 * 24
	.balign	16
	.skip	16384
stack_top:
